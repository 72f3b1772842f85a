from __future__ import annotations

import pytest

from datasets.errors import UsageError
from experiments.folds.fold_plan import make_plan


@pytest.fixture
def plan_of(cohort_dir, tmp_path):
    def make(*more, **options):
        own = [("data.root", str(cohort_dir)), ("runs_dir", str(tmp_path)), *more]
        return make_plan(
            "tft_baseline", [*own, ("data.labels", "{control: 0, case: 1}")], **options
        )

    return make


def test_seeds_and_families_share_each_folds_split(plan_of):
    plan = plan_of(count=2, models=["tft", "mean_linear"], seeds=2, repeats=2)
    assert plan.candidates == ["tft", "mean_linear"]
    assert (len(plan.folds), plan.repeats, plan.seeds) == (4, 2, [0, 1])
    assert len(plan.runs) == 2 * 2 * 4
    for (_, seed, number), config in plan.runs.items():
        assert config.seed == seed
        assert config.data.split.seed == plan.folds[number].repeat
        assert config.data.split.fold == number % 2
        assert not config.baselines.enabled
    assert plan.folds[0].config.baselines.enabled


def test_the_configurations_own_model_keeps_its_parameters(plan_of):
    dropout = ("model.params.dropout", "0.3")
    plan = plan_of(dropout, count=2, models=["tft", "late_fusion"])
    assert plan.runs["tft", 0, 0].model.params["dropout"] == 0.3
    assert plan.runs["late_fusion", 0, 0].model.params["dropout"] == 0.5


def test_every_family_has_the_members_and_the_linear_path_of_the_configuration(plan_of):
    given = [("model.members", "3"), ("model.linear_path", "false")]
    runs = plan_of(*given, count=2, models=["tft", "mean_linear"]).runs
    assert {config.model.name for config in runs.values()} == {"tft", "mean_linear"}
    for config in runs.values():
        assert (config.model.members, config.model.linear_path) == (3, False)
    for config in plan_of(count=2, models=["tft", "mean_linear"]).runs.values():
        assert config.model.linear_path


def test_a_grid_is_laid_over_every_family(plan_of):
    grid = ["optimizer.lr=1e-4,1e-3", "model.params.dropout=0.1"]
    plan = plan_of(count=2, models=["tft", "late_fusion"], grid=grid)
    assert plan.candidates == [
        f"{family} optimizer.lr={rate} model.params.dropout=0.1"
        for family in ("tft", "late_fusion")
        for rate in ("1e-4", "1e-3")
    ]
    for candidate, rate in zip(plan.candidates, (1e-4, 1e-3) * 2, strict=True):
        config = plan.runs[candidate, 0, 1]
        assert config.optimizer.lr == rate
        assert config.model.params["dropout"] == 0.1


def test_pages_are_made_only_if_they_were_asked_for(plan_of):
    assert not plan_of(count=2).runs["tft", 0, 0].report.enabled
    config = plan_of(("report.enabled", "true"), count=2).runs["tft", 0, 0]
    assert config.report.enabled
    assert config.report.resamples > 0


def test_all_is_every_family(plan_of):
    plan = plan_of(count=2, models=["all"])
    assert plan.candidates[0] == "tft"
    assert {"late_fusion", "mean_linear", "tabular_only"} < set(plan.candidates)
    with pytest.raises(UsageError, match="stands alone"):
        plan_of(count=2, models=["all", "tft"])


def test_each_fold_chooses_for_all_its_models(plan_of, capsys):
    more = [("data.transforms", "auto"), ("model", "auto"), ("data.covariate_encoding", "standard")]
    plan = plan_of(*more, count=2, models=["auto", "mean_linear"], seeds=2)
    assert plan.candidates == ["auto", "mean_linear"]
    for number, fold in enumerate(plan.folds):
        steps = fold.config.data.transforms
        assert "auto" not in steps
        assert fold.version.preparation["transforms"][-1]["name"] == "standardize"
        for seed in plan.seeds:
            of_seed = {name: plan.runs[name, seed, number] for name in plan.candidates}
            assert all(config.data.transforms == steps for config in of_seed.values())
            assert of_seed["auto"].model == fold.config.model
            assert of_seed["mean_linear"].model.name == "mean_linear"
    assert "fold1 treatment: " in capsys.readouterr().out

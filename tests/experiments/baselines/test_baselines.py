"""Baselines of a run: on the run's own split, chosen on validation, told everywhere, saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from datasets.errors import UsageError
from experiments.baselines import (
    baseline_outputs,
    choose_names,
    fit_baselines,
    leaderboard_lines,
    load_baselines,
    save_baselines,
    start_baselines,
    stop_baselines,
    title_of,
    verdict,
)
from experiments.builders import build_data
from experiments.config import LATE_FUSION, Config
from experiments.run_files import RunFile
from experiments.runs import Experiment

MakeConfig = Callable[..., Config]
FEW = ["spectra_pca_logistic", "covariates_logistic", LATE_FUSION]


@pytest.fixture(scope="module")
def finished(cohort_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A finished run with three baselines."""
    from tests.experiments.conftest import changed_config, small_settings

    settings = small_settings(cohort_dir, tmp_path_factory.mktemp("runs"))
    experiment = Experiment(
        changed_config(settings, **{"baselines": {"models": FEW}, "report.enabled": True})
    )
    experiment.run()
    return experiment


def test_every_figure_is_that_of_scikit_learn(finished: Experiment) -> None:
    data, baselines, board = finished.data, finished.baselines, finished.leaderboard
    assert baselines is not None
    assert board is not None
    for subset in ("val", "test"):
        outputs = baseline_outputs(baselines, data, subset)
        for entry in board.baselines:
            target = outputs[entry.name].target.numpy()
            expected = roc_auc_score(target, outputs[entry.name].scores[:, 1].numpy())
            assert entry.metrics[subset]["auroc"] == pytest.approx(expected)
    table = pd.read_csv(finished.run_dir / "predictions.csv")
    expected = roc_auc_score(table["target"] == "case", table["prob_case"])
    assert board.network.test.value == pytest.approx(expected)
    best = board.best.test.value
    assert board.difference.value == pytest.approx(expected - best)


def test_the_best_is_chosen_on_validation(finished: Experiment) -> None:
    board = finished.leaderboard
    assert board is not None
    values = [entry.val for entry in board.baselines]
    assert values == sorted(values, reverse=True)
    assert board.best is board.baselines[0]


def test_late_fusion_is_the_mean_of_the_best_of_each_modality(finished: Experiment) -> None:
    baselines = finished.baselines
    assert baselines is not None
    assert baselines.fused == ["spectra_pca_logistic", "covariates_logistic"]
    outputs = baseline_outputs(baselines, finished.data, "test")
    mean = (outputs[FEW[0]].logits + outputs[FEW[1]].logits) / 2
    assert torch.allclose(outputs[LATE_FUSION].logits, mean)


def test_the_verdict_stands_in_metrics_summary_and_card(finished: Experiment) -> None:
    board = finished.leaderboard
    assert board is not None
    sentence = verdict(board)
    found = json.loads((finished.run_dir / "metrics.json").read_text())["test"]["baselines"]
    assert found["best"] == board.best.name
    assert found["difference"] == pytest.approx(board.difference.value)
    assert set(found["models"]) == set(FEW)
    for name in ("summary.md", "model_card.md"):
        text = (finished.run_dir / name).read_text()
        assert f"Verdict: {sentence}." in text
        for entry in board.baselines:
            assert title_of(entry.name) in text
    assert leaderboard_lines(board)[-1] == f"verdict: {sentence}"


def test_saved_baselines_predict_the_same(finished: Experiment) -> None:
    baselines, data = finished.baselines, finished.data
    assert baselines is not None
    loaded = load_baselines(finished.run_dir)
    first, second = (baseline_outputs(found, data, "test") for found in (baselines, loaded))
    for name in FEW:
        assert torch.equal(first[name].logits, second[name].logits)


def test_a_stack_is_built_from_files_alone(finished: Experiment) -> None:
    def features(subset: str) -> tuple[pd.DataFrame, pd.Series]:
        middle = "_val" if subset == "val" else ""
        own = pd.read_csv(finished.run_dir / f"predictions{middle}.csv", index_col="sample_id")
        other = pd.read_csv(finished.run_dir / f"predictions{middle}_baselines.csv")
        assert list(other.columns) == ["model", "sample_id", *own.columns]
        wide = other.pivot(index="sample_id", columns="model", values="prob_case")
        return wide.assign(network=own["prob_case"]), own["target"]

    x_val, y_val = features("val")
    x_test, y_test = features("test")
    assert set(x_val) == {*FEW, "network"}
    splits = pd.read_csv(finished.run_dir / "splits.csv", index_col="sample_id")["split"]
    for subset, x in (("val", x_val), ("test", x_test)):
        assert not x.isna().any(axis=None)
        assert set(x.index) == set(splits.index[splits == subset])
    stack = LogisticRegression().fit(x_val, y_val)
    found = roc_auc_score(y_test == "case", stack.predict_proba(x_test)[:, 0])
    assert list(stack.classes_) == ["case", "control"]
    assert found > 0.5
    board = finished.leaderboard
    assert board is not None
    for entry in board.baselines:
        expected = entry.metrics["val"]["auroc"]
        assert roc_auc_score(y_val == "case", x_val[entry.name]) == pytest.approx(expected)
    expected = finished.results["val"]["auroc"]
    assert roc_auc_score(y_val == "case", x_val["network"]) == pytest.approx(expected)


def test_a_file_with_other_classes_is_refused(tmp_path: Path) -> None:
    from sklearn.tree import DecisionTreeClassifier
    from skops.io import dump

    tree = DecisionTreeClassifier().fit([[0], [1]], [0, 1])
    dump(
        {"task": "binary", "models": {}, "odd": np.random.default_rng, "tree": tree},
        tmp_path / RunFile.BASELINES,
    )
    with pytest.raises(UsageError, match="holds no baselines"):
        load_baselines(tmp_path)


def test_a_folder_without_baselines_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no baselines\.skops"):
        load_baselines(tmp_path)


@pytest.mark.parametrize(
    ("changes", "fitting"),
    [
        ({"data.numeric": [], "data.categorical": []}, "spectra"),
        ({"data.task": "regression", "data.label": "age", "data.labels": None}, ""),
    ],
    ids=["no_covariates", "regression"],
)
def test_baselines_are_those_that_fit_the_data(
    make_config: MakeConfig, changes: dict[str, Any], fitting: str
) -> None:
    data = build_data(make_config(**changes))
    names, fuse = choose_names(data)
    assert names
    assert all(name.startswith(fitting) for name in names)
    assert fuse == (fitting == "")
    with pytest.raises(UsageError, match=r"baselines\.models: 'covariates_logistic' does not fit"):
        choose_names(data, ["covariates_logistic"])


def test_a_fitted_regression_is_in_the_targets_units(make_config: MakeConfig) -> None:
    config = make_config(**{"data.task": "regression", "data.label": "age", "data.labels": None})
    data = build_data(config)
    baselines = fit_baselines(data, config.baselines, "mae", 0)
    outputs = baseline_outputs(baselines, data, "val")
    age = data.cohort.targets[data.split == "val"]
    for found in outputs.values():
        assert np.allclose(found.target.numpy(), age)
        assert abs(found.logits.numpy().mean() - age.mean()) < 2 * data.cohort.targets.std()


def test_larger_training_sets_are_drawn_by_group(make_config: MakeConfig) -> None:
    config = make_config(**{"baselines": {"max_samples": 20, "models": FEW[:1]}})
    data = build_data(config)
    assert len(data.datasets["train"]) > 20
    baselines = fit_baselines(data, config.baselines, "auroc", 0)
    assert baselines.drawn is not None
    assert baselines.drawn <= 20


def test_fits_beside_the_training_are_the_same(make_config: MakeConfig) -> None:
    config = make_config(**{"baselines": {"models": [*FEW, "covariates_extra_trees"]}})
    data = build_data(config)
    expected = fit_baselines(data, config.baselines, "auroc", 3)
    started = start_baselines(data, config.baselines, 3)
    found = fit_baselines(data, config.baselines, "auroc", 3, started=started)
    assert found.fused == expected.fused
    spectra, covariates = data.datasets["val"].mean_scans(), data.datasets["val"].tabular
    one, other = (made.logits(spectra, covariates) for made in (expected, found))
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-9) for name in one)


def test_fits_that_nobody_waits_for_end_at_once(
    make_config: MakeConfig, recwarn: pytest.WarningsRecorder
) -> None:
    config = make_config()
    data = build_data(config)
    started = start_baselines(data, config.baselines, 3)
    stop_baselines(started)
    assert not recwarn.list
    with pytest.raises(ValueError, match="shorter"):
        fit_baselines(data, config.baselines, "auroc", 3, started=started)


@pytest.mark.parametrize("takers", [("cpu",), ()], ids=["same_device", "another_device"])
def test_only_a_training_elsewhere_leaves_the_cores_to_the_baselines(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, takers: tuple[str, ...]
) -> None:
    changes = {"baselines": {"models": FEW}, "report.enabled": False, "trainer.refit": True}
    run = Experiment(make_config(**changes))
    run.setup()
    begun = []

    def begin(data: Any, *others: Any) -> Any:
        begun.append((data.fitted_on, run.trainer.state.iteration))
        return start_baselines(data, *others)

    monkeypatch.setattr("experiments.runs.experiment.start_baselines", begin)
    monkeypatch.setattr("experiments.runs.experiment.TAKE_THE_CORES", takers)
    run.train()
    run.refit()
    run.test()
    run.close()
    subsets = [("train",), ("train", "val")] if not takers else []
    assert begun == [(subset, 0) for subset in subsets]
    assert run.leaderboard is not None


def test_mean_scans_are_the_means_of_the_samples(make_config: MakeConfig) -> None:
    dataset = build_data(make_config()).datasets["val"]
    expected = np.stack([dataset[row].spectra.mean(axis=0) for row in range(len(dataset))])
    assert np.allclose(dataset.mean_scans(), expected, atol=1e-6)
    assert np.allclose(dataset.mean_scans(np.array([2, 0])), expected[[2, 0]], atol=1e-6)


def test_the_test_set_changes_no_baseline(make_config: MakeConfig) -> None:
    config = make_config(**{"baselines": {"models": FEW}})
    data = build_data(config)
    first = fit_baselines(data, config.baselines, "auroc", 0)
    data.datasets["test"].targets[:] = 0
    data.datasets["test"].tabular[:] = 9
    second = fit_baselines(data, config.baselines, "auroc", 0)
    assert first.fused == second.fused
    spectra, covariates = data.datasets["val"].mean_scans(), data.datasets["val"].tabular
    one, other = (found.logits(spectra, covariates) for found in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in FEW)


def test_a_wrong_name_gets_the_nearest(make_config: MakeConfig) -> None:
    with pytest.raises(UsageError, match="did you mean 'late_fusion'"):
        make_config(**{"baselines.models": ["late_fusions"]})


def test_a_missing_skops_is_told_in_a_line(
    finished: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "skops.io", None)
    assert finished.baselines is not None
    told = save_baselines(finished.baselines, tmp_path)
    assert told is not None
    assert "scanfire[baselines]" in told
    assert not list(tmp_path.iterdir())

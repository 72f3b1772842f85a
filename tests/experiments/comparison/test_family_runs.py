from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from engine.reporting import figure_text
from experiments import compare
from experiments.comparison import family_runs
from experiments.comparison.family_runs import families_text
from experiments.run_files import is_finished
from models import TabularOnly
from tests.made_once import made_once

pytestmark = pytest.mark.slow


def table(mode="max", **medians):
    rows = []
    for family, (val, tests) in medians.items():
        rows += [[family, seed, val, test, 1234, 2.0] for seed, test in enumerate(tests)]
    columns = ["family", "seed", "val", "test", "parameters", "seconds"]
    return families_text("study", "auroc", mode, pd.DataFrame(rows, columns=columns))


def families(text):
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return [line.split("|")[1].strip() for line in lines]


def test_the_best_on_validation_stands_first():
    found = table(a=(0.7, [0.9, 0.9]), b=(0.8, [0.6, 0.8]))
    assert families(found) == ["b", "a"]
    assert "b is the best on validation, a on test." in found
    assert "| b | 1,234 | 0.8000 | 0.7000 | 0.7000 | 0.6000 | 0.8000 | 2.0 |" in found


def test_where_smaller_is_better_the_smallest_wins():
    found = table("min", a=(0.7, [0.9]), b=(0.8, [0.95]))
    assert families(found) == ["a", "b"]
    assert "over 1 seed, a is the best on validation and on test." in found


def test_what_is_undefined_comes_last_and_is_said():
    found = table(a=(math.nan, [0.9, math.nan]), b=(0.6, [0.5, 0.5]))
    assert families(found) == ["b", "a"]
    assert "undefined" in found
    assert "b is the best on validation and on test." in found


FAMILIES = ["mean_linear", "tabular_only"]


@pytest.fixture(scope="session")
def study(tmp_path_factory, cohort_dir):
    """A configuration of a few seconds, and its finished runs of two families and two seeds."""

    def make(folder: Path) -> None:
        values = {
            "runs_dir": str(folder / "runs"),
            "data": {"root": str(cohort_dir), "labels": {"control": 0, "case": 1}},
            "trainer": {"max_epochs": 2, "device": "cpu"},
            "report": {"enabled": False, "resamples": 50},
            "baselines": {"enabled": False},
        }
        (folder / "small.yaml").write_text(yaml.safe_dump(values))
        assert run(folder) == 0

    return made_once(tmp_path_factory, "family_runs", make)


def run(study, *more, models=FAMILIES, seeds=("0", "1")):
    words = [str(study / "small.yaml"), "--seeds", *seeds, "--models", *models, *more]
    return compare.main(words)


@pytest.fixture(scope="session")
def done(study):
    """The folder of the finished runs."""
    return study / "runs"


def rows(text):
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {row[0]: dict(zip(lines[0], row, strict=True)) for row in lines[2:]}


def test_every_family_is_run_for_every_seed(done):
    names = {f"small-{family}-s{seed}" for family in FAMILIES for seed in (0, 1)}
    assert {path.name for path in done.iterdir() if path.is_dir()} == names
    assert all(is_finished(done / name) for name in names)


def test_families_of_a_seed_share_the_split_and_seeds_do_not(done):
    splits = {
        (family, seed): pd.read_csv(done / f"small-{family}-s{seed}" / "splits.csv")
        for family in FAMILIES
        for seed in (0, 1)
    }
    for seed in (0, 1):
        first, second = (splits[family, seed] for family in FAMILIES)
        pd.testing.assert_frame_equal(first, second)
    assert not splits[FAMILIES[0], 0]["split"].equals(splits[FAMILIES[0], 1]["split"])


def test_families_differ_in_their_parameters_alone(done):
    configs = {
        family: yaml.safe_load((done / f"small-{family}-s0" / "config.yaml").read_text())
        for family in FAMILIES
    }
    alike = {"members": 1, "linear_path": False}
    assert configs["tabular_only"]["model"] == {
        **{"name": "tabular_only", "params": {"dropout": 0.5}},
        **alike,
    }
    assert configs["mean_linear"]["model"] == {"name": "mean_linear", "params": {}, **alike}
    for config in configs.values():
        del config["model"], config["exp_name"]
    assert configs["mean_linear"] == configs["tabular_only"]


def test_the_table_holds_what_the_runs_measured(done):
    found = rows((done / "small-families.md").read_text())
    assert set(found) == set(FAMILIES)
    for family, row in found.items():
        tests, vals = [], []
        for seed in (0, 1):
            metrics = json.loads((done / f"small-{family}-s{seed}" / "metrics.json").read_text())
            tests.append(metrics["test"]["metrics"]["auroc"])
            vals.append(metrics["best"]["metrics"]["val/auroc"])
            assert row[f"test, seed {seed}"] == figure_text(tests[-1])
        assert row["test auroc, median"] == row["test, mean"] == figure_text(sum(tests) / 2)
        assert row["validation auroc, median"] == figure_text(sum(vals) / 2)


def test_the_parameters_are_those_of_the_model(done):
    weights = load_file(done / "small-tabular_only-s0" / "checkpoints" / "model.safetensors")
    tab_dim = next(
        dim
        for dim in range(1, 100)
        if {n: t.shape for n, t in TabularOnly(dim).state_dict().items()}
        == {n: t.shape for n, t in weights.items()}
    )
    expected = sum(p.numel() for p in TabularOnly(tab_dim).parameters())
    found = rows((done / "small-families.md").read_text())
    assert found["tabular_only"]["parameters"] == f"{expected:,}"


def test_finished_families_are_not_run_again(done, study, capsys, tmp_path):
    logs = {path: path.read_bytes() for path in done.glob("*/log.jsonl")}
    assert run(study, "--out", str(tmp_path / "table.md")) == 0
    assert capsys.readouterr().out.count("finished before") == 4
    assert {path: path.read_bytes() for path in done.glob("*/log.jsonl")} == logs
    assert (tmp_path / "table.md").read_text() == (done / "small-families.md").read_text()


def test_a_comparison_that_was_stopped_goes_on_where_it_was(study, tmp_path, monkeypatch, capsys):
    from experiments.runs import Experiment

    place = ("--runs_dir", str(tmp_path))
    whole = Experiment.export

    def cut(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "export", cut)
    assert run(study, *place, models=["mean_linear"], seeds=["0"]) == 130
    monkeypatch.setattr(Experiment, "export", whole)
    assert not is_finished(tmp_path / "small-mean_linear-s0")
    assert run(study, *place, models=["mean_linear"], seeds=["0"]) == 0
    assert "small-mean_linear-s0: continued" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["small-mean_linear-s0"]
    assert is_finished(tmp_path / "small-mean_linear-s0")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--trainer.max_epochs", "3"], r"another configuration \(trainer\)"),
        (["--model.name", "tft"], "--model.name: each family has its own"),
        (["--seed", "3"], "--seed: give --seeds"),
        (["--vary-cohort"], "draws simulated cohorts, but data.root names a real one"),
        (["--out", "/nowhere/table.md"], "there is no folder /nowhere"),
        (["--trainer.max_epoch", "3"], "did you mean 'trainer.max_epochs'"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_run(done, study, capsys, more, words):
    import re

    before = sorted(done.iterdir())
    assert run(study, *more) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert re.search(words, errors[0])
    assert sorted(done.iterdir()) == before


def test_names_and_parameters_of_families_are_checked(study, tmp_path, capsys):
    assert run(study, models=["mean_linar"]) == 2
    assert "did you mean 'mean_linear'" in capsys.readouterr().err
    (tmp_path / "own.yaml").write_text("tabular_only: {dropuot: 0.1}\n")
    place = ["--runs_dir", str(tmp_path / "runs"), "--families", str(tmp_path / "own.yaml")]
    assert run(study, *place, models=["tabular_only"]) == 2
    assert "did you mean 'dropout'" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("*"))
    assert run(study, seeds=["0", "0"]) == 2
    assert "given twice" in capsys.readouterr().err


def test_another_cohort_can_be_drawn_for_each_seed():
    configs = family_runs.plan("tft_baseline", [], {"mean_linear": {}}, [3, 4], vary_cohort=True)
    assert [config.data.simulated.seed for config in configs.values()] == [3, 4]
    assert [config.seed for config in configs.values()] == [3, 4]
    same = family_runs.plan("tft_baseline", [], {"mean_linear": {}}, [3, 4])
    assert len({config.data.simulated.seed for config in same.values()}) == 1


def test_the_shipped_families_are_all_the_models():
    import inspect

    from experiments.config import FAMILIES as SHIPPED
    from experiments.config import choose_families, find_named
    from models import MODELS

    families = choose_families(SHIPPED, None)
    assert set(families) == set(MODELS)
    for name, params in families.items():
        assert set(params) <= set(inspect.signature(find_named(name, MODELS, "name")).parameters)


def test_families_have_the_members_and_the_linear_path_of_the_configuration():
    given = [("model.members", "3"), ("model.linear_path", "true")]
    families = {"mean_linear": {}, "tabular_only": {"dropout": 0.1}}
    for config in family_runs.plan("tft_baseline", given, families, [0]).values():
        assert (config.model.members, config.model.linear_path) == (3, True)
        assert config.model.params == families[config.model.name]


def test_families_have_not_the_members_of_an_ensemble(tmp_path):
    source = tmp_path / "listed.yaml"
    source.write_text("model: {name: ensemble, members: [{name: mean_linear}]}")
    (config,) = family_runs.plan(str(source), [], {"tabular_only": {}}, [0]).values()
    assert (config.model.name, config.model.members) == ("tabular_only", 1)

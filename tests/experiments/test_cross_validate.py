from __future__ import annotations

import json
import re
import shutil
import statistics

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments import cross_validate
from experiments.run_files import is_finished, read_predictions
from experiments.runs import Experiment

pytestmark = pytest.mark.slow

METRICS = ["auroc", "brier"]


@pytest.fixture(scope="module")
def study(tmp_path_factory, cohort_dir):
    """A configuration of a second a fold, in a folder of its own, and a cohort on plates."""
    folder = tmp_path_factory.mktemp("study")
    root = folder / "plates"
    root.mkdir()
    for path in cohort_dir.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    table = pd.read_csv(root / "samples.csv", dtype=str)
    table["group"] = [f"plate {'ABCD'[number % 4]}/1" for number in range(len(table))]
    table.to_csv(root / "samples.csv", index=False)
    values = {
        "runs_dir": str(folder / "runs"),
        "metrics": METRICS,
        "data": {"root": str(cohort_dir), "labels": {"control": 0, "case": 1}},
        "model": {"name": "tabular_only"},
        "lr_scheduler": None,
        "trainer": {"max_epochs": 1, "device": "cpu"},
        "report": {"enabled": False, "resamples": 50},
        "audit": {"enabled": False},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(values))
    return folder


def run(study, *more):
    return cross_validate.main([str(study / "small.yaml"), *more])


@pytest.fixture(scope="module")
def done(study):
    """Three folds."""
    assert run(study, "--folds", "3") == 0
    return study / "runs"


def test_every_fold_is_a_run_and_every_sample_is_tested_once(done, cohort_dir):
    names = [f"small-fold{number}" for number in range(3)]
    assert sorted(path.name for path in done.iterdir()) == [*names, "small-folds"]
    assert all(is_finished(done / name) for name in names)
    table = pd.read_csv(done / "small-folds" / "predictions.csv", dtype=str)
    everyone = pd.read_csv(cohort_dir / "samples.csv", dtype=str)["sample_id"]
    assert sorted(table["sample_id"]) == sorted(everyone)
    for number, name in enumerate(names):
        own = pd.read_csv(done / name / "predictions.csv", dtype=str)
        there = table[table["fold"] == str(number)].drop(columns="fold").reset_index(drop=True)
        pd.testing.assert_frame_equal(there, own)
        splits = pd.read_csv(done / name / "splits.csv", dtype=str)
        assert set(splits.loc[splits["split"] == "test", "sample_id"]) == set(own["sample_id"])


def test_folds_differ_in_nothing_but_the_fold_and_the_name(done):
    configs = [
        yaml.safe_load((done / f"small-fold{number}" / "config.yaml").read_text())
        for number in range(3)
    ]
    assert [config["data"]["split"].pop("fold") for config in configs] == [0, 1, 2]
    assert [config.pop("exp_name") for config in configs] == [f"small-fold{n}" for n in range(3)]
    assert configs[0] == configs[1] == configs[2]


def rows(text):
    """The rows of all tables of a page."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in lines}


def test_the_tables_hold_what_the_runs_measured(done):
    folder = done / "small-folds"
    table = pd.read_csv(folder / "folds.csv")
    summary = rows((folder / "summary.md").read_text("utf-8"))
    outputs, _ = read_predictions(folder / "predictions.csv")
    for metric in METRICS:
        figures = [
            json.loads((done / f"small-fold{n}" / "metrics.json").read_text())["test"]["metrics"]
            for n in range(3)
        ]
        own = [figure[metric] for figure in figures]
        assert table[metric].tolist() == pytest.approx(own, rel=1e-12)
        mean, deviation, median, pooled = summary[metric]
        assert mean == f"{statistics.fmean(own):.4f}"
        assert deviation == f"{statistics.stdev(own):.4f}"
        assert median == f"{statistics.median(own):.4f}"
        assert re.fullmatch(r"0\.\d{4} \(0\.\d{3} to \d\.\d{3}\)", pooled)
    # By the definition of the score, over all predictions.
    score = ((outputs.scores[:, 1] - outputs.target) ** 2).mean()
    assert summary["brier"][-1].startswith(f"{score:.4f} (")
    assert table["test_samples"].tolist() == [20, 20, 20]
    assert table["test_groups"].tolist() == [20, 20, 20]
    assert table["fingerprint"].nunique() == 3


def test_the_summary_says_that_folds_are_not_independent(done):
    text = (done / "small-folds" / "summary.md").read_text("utf-8")
    for words in (
        "not independent",
        "Bengio and Grandvalet 2004",
        "not a standard error of the mean",
        "60 groups",
    ):
        assert words in text
    assert re.search(r"cohort fingerprint, before the split, [0-9a-f]{12}", text)


def test_finished_folds_are_not_run_again(done, study, capsys):
    before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    assert run(study, "--folds", "3") == 0
    told = capsys.readouterr().out
    assert told.count("finished before") == 3
    assert "3 folds; 60 samples of 60 groups, each tested once" in told
    assert re.search(r"auroc( +0\.\d{4}){7} \(0\.\d{3} to", told)
    assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file()} == before


def test_what_was_stopped_goes_on_where_it_was(study, tmp_path, monkeypatch, capsys):
    place = ("--folds", "2", "--runs_dir", str(tmp_path))
    whole, exported = Experiment.export, []

    def cut_the_second(self):
        exported.append(self.run_dir.name)
        if len(exported) == 2:
            raise KeyboardInterrupt
        return whole(self)

    monkeypatch.setattr(Experiment, "export", cut_the_second)
    assert run(study, *place) == 130
    assert "the same command line continues" in capsys.readouterr().err
    assert not (tmp_path / "small-folds").exists()
    assert run(study, *place) == 0
    told = capsys.readouterr().out
    assert "[1/2] small-fold0: finished before" in told
    assert "[2/2] small-fold1: continued" in told
    assert exported == ["small-fold0", "small-fold1", "small-fold1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("small-fold0", "small-fold1", "small-folds")
    ]


def test_a_signal_gives_its_code_and_ends_the_folds(study, tmp_path, monkeypatch):
    def stopped(self):
        self.setup()
        self.handlers.graceful_shutdown.exit_code = 143
        return {}

    monkeypatch.setattr(Experiment, "run", stopped)
    assert run(study, "--folds", "2", "--runs_dir", str(tmp_path)) == 143
    assert [path.name for path in tmp_path.iterdir()] == ["small-fold0"]


def test_each_group_is_left_out_and_names_its_run(study, tmp_path, capsys):
    words = ["--data.root", str(study / "plates"), "--runs_dir", str(tmp_path)]
    assert run(study, *words, "--data.split.kind", "leave_one_group_out") == 0
    names = [f"small-fold{number}-plate_{'ABCD'[number]}_1" for number in range(4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "small-folds"]
    for number, name in enumerate(names):
        table = pd.read_csv(tmp_path / name / "splits.csv", dtype=str)
        tested = set(table.loc[table["split"] == "test", "group"])
        assert tested == {f"plate {'ABCD'[number]}/1"}
    assert "each group left out in turn, 4 of them" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "small-folds" / "predictions.csv")
    assert set(table["fold"]) == {f"plate {letter}/1" for letter in "ABCD"}


def test_undefined_figures_are_counted_and_left_out_of_the_mean(study, tmp_path, capsys):
    """Each group is of one class here, and so is each test set, which has no ranking."""
    root = shutil.copytree(study / "plates", tmp_path / "classes")
    table = pd.read_csv(root / "samples.csv", dtype=str)
    table["group"] = [f"{label} {n % 3}" for n, label in enumerate(table["label"])]
    table.to_csv(root / "samples.csv", index=False)
    words = ["--runs_dir", str(tmp_path / "runs"), "--data.root", str(root)]
    assert run(study, *words, "--data.split.kind", "leave_one_group_out") == 0
    told = capsys.readouterr().out
    assert "auroc is undefined in 6 of 6 folds" in told
    found = rows((tmp_path / "runs" / "small-folds" / "summary.md").read_text("utf-8"))
    assert found["auroc"][:3] == ["undefined"] * 3
    assert re.match(r"\d\.\d{4}", found["auroc"][3])
    assert re.match(r"0\.\d{4}", found["brier"][0])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "a holdout has no folds"),
        (["--data.split.kind", "hash"], "a hash has no folds"),
        (["--folds", "3", "--data.split.fold", "1"], "--data.split.fold: every fold is run"),
        (["--folds", "3", "--data.split.file", "s.csv"], "--data.split.file: a file is one split"),
        (["--folds", "1"], "greater than or equal to 2"),
        (["--folds", "40"], "to be in each of fold 0, fold 1, ..., fold 39"),
        (["--folds", "3", "--trainer.max_epochs", "9"], r"another configuration \(trainer\)"),
        (["--folds", "4"], "another configuration"),
        (["--folds", "2", "--model.name", "tabular"], "did you mean 'tabular_only'"),
        (["--data.split", "{kind: leave_one_batch_out, batch: plates}"], "did you mean 'plate'"),
        (["--folds", "2", "more"], "'more' is not understood"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is(done, study, capsys, more, words):
    if "--model.name" in more:
        more = [*more, "--exp_name", "other"]
    before = sorted(done.rglob("*"))
    assert run(study, *more) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert re.search(words, errors[0])
    assert sorted(done.rglob("*")) == before


def test_folds_of_a_changed_cohort_are_not_mixed(study, tmp_path, capsys):
    root = tmp_path / "plates"
    root.mkdir()
    for path in (study / "plates").iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    words = ["--folds", "2", "--data.root", str(root), "--runs_dir", str(tmp_path / "runs")]
    assert run(study, *words) == 0
    table = pd.read_csv(root / "samples.csv", dtype=str)
    table.loc[0, "age"] = "47"
    table.to_csv(root / "samples.csv", index=False)
    capsys.readouterr()
    assert run(study, *words) == 2
    said = capsys.readouterr().err
    assert "small-fold0 is a run on another cohort: samples.csv differs; move it away" in said


def test_values_are_cross_validated_too(study, tmp_path):
    words = ["--data.task", "regression", "--data.label", "age", "--data.labels", "null"]
    place = ["--runs_dir", str(tmp_path), "--metrics", "[mae, r2]"]
    assert run(study, *words, *place, "--data.numeric", "[CRP, ALT]", "--folds", "2") == 0
    table = pd.read_csv(tmp_path / "small-folds" / "predictions.csv")
    found = rows((tmp_path / "small-folds" / "summary.md").read_text("utf-8"))
    error = np.abs(table["target_age"] - table["prediction_age"]).mean()
    told, *bounds = re.findall(r"[\d.]+", found["mae"][-1])
    assert float(told) == pytest.approx(error, rel=1e-3)
    assert float(bounds[0]) < error < float(bounds[1])

from __future__ import annotations

import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score

from datasets.splits import SUBSETS
from experiments import cross_validate
from experiments.baselines import baseline_outputs, load_baselines
from experiments.builders import build_data
from experiments.config import load_config
from experiments.folds import FUSED_BASELINES
from experiments.run_files import is_finished
from experiments.runs import Experiment

pytestmark = pytest.mark.slow

METRICS = ["auroc", "brier"]
BASELINES = ["spectra_logistic", "covariates_logistic", "late_fusion"]


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
        "baselines": {"models": BASELINES},
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


def read(folder: Path, name: str) -> Any:
    return pd.read_csv(folder / name, keep_default_na=False, na_values=[""])


def test_every_fold_is_a_run_and_every_sample_is_tested_once(done, cohort_dir):
    names = [f"small-fold{number}" for number in range(3)]
    assert sorted(path.name for path in done.iterdir()) == [*names, "small-folds"]
    assert all(is_finished(done / name) for name in names)
    table = pd.read_csv(done / "small-folds" / "predictions_oof.csv", dtype=str)
    everyone = pd.read_csv(cohort_dir / "samples.csv", dtype=str)["sample_id"]
    assert sorted(table["sample_id"]) == sorted(everyone)
    network = {
        c: c.removeprefix("tabular_only:") for c in map(str, table) if c.startswith("tabular_only:")
    }
    for number, name in enumerate(names):
        own = pd.read_csv(done / name / "predictions.csv", dtype=str)
        there = table[table["fold"] == str(number)].reset_index(drop=True)
        there = there[["sample_id", "target", *network]].rename(columns=network)
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
    assert configs[0]["baselines"]["enabled"] is False  # they are fitted once for each fold


def rows(text):
    """The rows of all tables of a page."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in lines}


def test_the_tables_hold_what_the_runs_measured(done):
    folder = done / "small-folds"
    table = read(folder, "folds.csv")
    table = table[table["model"] == "tabular_only"]
    summary = rows((folder / "summary.md").read_text("utf-8"))
    metrics = read(folder, "metrics.csv").set_index(["model", "metric"]).loc["tabular_only"]
    for metric in METRICS:
        figures = [
            json.loads((done / f"small-fold{n}" / "metrics.json").read_text())["test"]["metrics"]
            for n in range(3)
        ]
        own = [figure[metric] for figure in figures]
        assert table[metric].tolist() == pytest.approx(own, rel=1e-12)
        spread = [statistics.fmean(own), statistics.stdev(own), statistics.median(own)]
        assert list(metrics.loc[metric, ["mean", "sd", "median"]]) == pytest.approx(spread)
    for pooled, metric in zip(summary["tabular\\_only"], METRICS, strict=True):
        assert re.fullmatch(r"0\.\d{4} \(0\.\d{3} to \d\.\d{3}\)", pooled)
        assert pooled.startswith(f"{metrics.loc[metric, 'pooled']:.4f}")
    # By the definition of the score, over all predictions.
    oof = read(folder, "predictions_oof.csv")
    score = ((oof["tabular_only:prob_case"] - (oof["target"] == "case")) ** 2).mean()
    assert metrics.loc["brier", "pooled"] == pytest.approx(score)
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
    assert re.search(r"Cohort fingerprint, before the split, [0-9a-f]{12}", text)


def test_finished_folds_are_not_run_again(done, study, capsys):
    before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    assert run(study, "--folds", "3") == 0
    told = capsys.readouterr().out
    assert told.count("] small-fold") == told.count(": finished before") == 3
    assert "baselines, fold 1 to 3: 3 finished before" in told
    assert "3 folds; 60 samples of 60 groups, each tested once" in told
    assert re.search(r"\ntabular_only +\d\.\d+ +0\.\d+ \(0\.\d{3} to ", told)
    assert "verdict: recommended: " in told
    after = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
    saved = done / "small-folds" / "recommended" / "baselines.skops"  # an archive with its time
    before.pop(saved)
    after.pop(saved)
    assert after == before


def test_baselines_are_fitted_as_a_run_fits_them(done, study, tmp_path):
    words = ["--data.split.kind", "kfold", "--data.split.folds", "3", "--data.split.fold", "1"]
    own = [("runs_dir", str(tmp_path)), *zip([w[2:] for w in words[::2]], words[1::2], strict=True)]
    experiment = Experiment(load_config(str(study / "small.yaml"), own))
    experiment.run()
    table = read(done / "small-folds", "folds.csv")
    table = table[table["fold"] == 1].set_index("model")
    assert experiment.leaderboard is not None
    for entry in experiment.leaderboard.baselines:
        name = FUSED_BASELINES if entry.name == "late_fusion" else entry.name
        assert table.loc[name, "auroc"] == pytest.approx(entry.metrics["test"]["auroc"])
        assert table.loc[name, "val/auroc"] == pytest.approx(entry.val)


def test_the_recommended_baseline_is_fitted_to_all_samples(done, study):
    folder = done / "small-folds" / "recommended"
    fitted = load_baselines(folder)
    data = build_data(load_config(str(study / "small.yaml")), fitted_on=SUBSETS)
    assert len(data.datasets["train"]) == 60
    packed = torch.load(folder / "preprocessing.pt", weights_only=False)
    encoder = data.encoder.state_dict()
    assert packed["covariates"].keys() == encoder.keys()
    assert str(packed["covariates"]) == str(encoder)
    found = baseline_outputs(fitted, data, "test")
    assert set(fitted.names) <= set(BASELINES)
    assert all(torch.isfinite(outputs.scores).all() for outputs in found.values())


FAMILIES = [
    *("--folds", "2", "--models", "tabular_only", "mean_linear", "--seeds", "2"),
    *("--grid", "optimizer.lr=1e-3,1e-2", "--permutations", "3", "--learning-curve"),
    *("--of", "baselines", "tabular_only"),
]


@pytest.fixture(scope="module")
def families(study, tmp_path_factory):
    """Two families of two seeds, and a small grid, on two folds."""
    place = tmp_path_factory.mktemp("families")
    assert run(study, "--runs_dir", str(place), *FAMILIES) == 0
    return place


def test_every_family_seed_and_place_in_the_grid_is_a_run(families):
    runs = {path.name for path in families.iterdir()} - {"small-folds"}
    assert runs == {
        f"small-{family}_optimizer.lr_{rate}-fold{fold}{seed}"
        for family in ("tabular_only", "mean_linear")
        for rate in ("1e-3", "1e-2")
        for fold in (0, 1)
        for seed in ("", "-s1")
    }
    splits = {(families / name / "splits.csv").read_text() for name in runs}
    assert len(splits) == 2  # one for each fold
    board = read(families / "small-folds", "leaderboard.csv").set_index("model")
    names = [
        f"{f} optimizer.lr={r}" for f in ("tabular_only", "mean_linear") for r in ("1e-3", "1e-2")
    ]
    fused = ["spectra_logistic", "covariates_logistic", FUSED_BASELINES]
    assert set(board.index) == {"recommended", *names, *fused}
    oof = read(families / "small-folds", "predictions_oof.csv")
    for name in names:
        own = [oof[f"{name}@seed{seed}:prob_case"] for seed in (0, 1)]
        assert not np.allclose(*own)
        assert oof[f"{name}:prob_case"].to_numpy() == pytest.approx(sum(own).to_numpy() / 2)
        area = roc_auc_score(oof["target"] == "case", oof[f"{name}:prob_case"])
        assert board.loc[name, "pooled"] == pytest.approx(area)


def test_permutations_and_the_learning_curve_are_measured(families, study):
    folder = families / "small-folds"
    board = read(folder, "leaderboard.csv").set_index("model")
    permuted = read(folder, "permutations.csv")
    baseline, network = permuted["model"].unique()
    of_kind = board.groupby("kind", sort=False).apply(lambda rows: rows.index[0])
    assert baseline == of_kind["baseline"]
    # Of the places in the grid the one that is best on the validation sets.
    assert network == next(name for name in board.index if name.startswith("tabular_only "))
    assert permuted.groupby("model")["permutation"].apply(list).tolist() == [[0, 1, 2]] * 2
    assert permuted["auroc"].between(0, 1).all()
    assert permuted["auroc"].nunique() == 6
    curve = read(folder, "learning_curve.csv")
    whole = curve[curve["share"] == 1.0].set_index("model")["auroc"]
    assert set(whole.index) == {network, *board.index[board["kind"] == "baseline"]}
    for name, value in whole.items():  # of all training samples it is the leaderboard's
        assert value == pytest.approx(board.loc[name, "pooled"])
    assert curve["samples"].max() < 60
    assert (curve.groupby("share")["samples"].nunique() == 1).all()
    own = curve[curve["model"] == network]
    assert own["share"].tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert own["auroc"].nunique() > 3
    text = (folder / "summary.md").read_text("utf-8")
    assert text.count("Permutation test of") == 2
    assert text.count("on 3 permutations") == 2
    assert text.count("Learning curve of") == 2
    page = (folder / "cross_validation.html").read_text("utf-8")
    assert '<section id="permutations"' in page
    assert '<section id="permutations-1"' in page
    assert '<section id="learning"' in page


def test_what_was_permuted_or_made_smaller_is_not_fitted_again(
    families, study, monkeypatch, capsys
):
    folder = families / "small-folds"
    names = ("permutations.csv", "learning_curve.csv", "leaderboard.csv")
    before = [(folder / name).read_bytes() for name in names]
    with monkeypatch.context() as patched:
        patched.delattr(Experiment, "run")
        patched.setattr("experiments.folds.fold_baselines.fit_baselines", None)
        assert run(study, "--runs_dir", str(families), *FAMILIES) == 0
    assert [(folder / name).read_bytes() for name in names] == before
    told = capsys.readouterr().out
    for kept in ("3 permutations, fold 1 to 2: 2", "learning curve, fold 1 to 2: 2"):
        assert f"{kept} finished before" in told
    assert "permuted targets, run 1 to 12: 12 finished before" in told
    assert "fewer training samples, run 1 to 16: 16 finished before" in told


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
    table = pd.read_csv(tmp_path / "small-folds" / "predictions_oof.csv")
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
    found = read(tmp_path / "runs" / "small-folds", "metrics.csv").set_index(["model", "metric"])
    assert found.loc[("tabular_only", "auroc"), ["mean", "sd", "median"]].isna().all()
    assert 0 <= found.loc[("tabular_only", "auroc"), "pooled"] <= 1
    assert 0 < found.loc[("tabular_only", "brier"), "mean"] < 1


def test_test_labels_of_a_fold_never_change_its_choice(study, tmp_path):
    words = [
        "--data.split.kind",
        "leave_one_group_out",
        "--baselines.models",
        "[covariates_logistic]",
    ]
    chosen: list[pd.DataFrame] = []
    for place in ("as_it_is", "flipped"):
        root = shutil.copytree(study / "plates", tmp_path / place)
        table = pd.read_csv(root / "samples.csv", dtype=str)
        if chosen:
            tested = table["group"] == "plate B/1"
            other = {"control": "case", "case": "control"}
            table.loc[tested, "label"] = table.loc[tested, "label"].map(other)
            table.to_csv(root / "samples.csv", index=False)
        runs = tmp_path / f"{place}-runs"
        assert run(study, *words, "--data.root", str(root), "--runs_dir", str(runs)) == 0
        table = read(runs / "small-folds", "folds.csv")
        table = table[table["fold"] == "plate B/1"]
        chosen.append(table.set_index("model")[["chosen", "val/auroc"]])
        assert chosen[-1]["chosen"].sum() == 1
    chosen = [table.sort_index() for table in chosen]
    pd.testing.assert_frame_equal(chosen[0], chosen[1])


def test_without_groups_each_sample_is_its_own(study, tmp_path, capsys):
    root = shutil.copytree(study / "plates", tmp_path / "alone")
    table = pd.read_csv(root / "samples.csv", dtype=str).drop(columns="group")
    table.to_csv(root / "samples.csv", index=False)
    told = yaml.safe_load((root / "cohort.yaml").read_text("utf-8"))
    told["roles"].pop("group", None)
    (root / "cohort.yaml").write_text(yaml.safe_dump(told))
    words = ["--runs_dir", str(tmp_path / "runs"), "--data.root", str(root), "--folds", "2"]
    assert run(study, *words) == 0
    told = capsys.readouterr().out
    assert "no column of groups: each sample is a group of its own" in told
    assert "2 folds; 60 samples of 60 groups, each tested once" in told
    oof = read(tmp_path / "runs" / "small-folds", "predictions_oof.csv")
    assert (oof["group"] == oof["sample_id"]).all()


def test_a_kfold_is_repeated_with_other_folds(study, tmp_path):
    words = [
        "--runs_dir",
        str(tmp_path),
        "--folds",
        "2",
        "--repeats",
        "2",
        "--baselines.enabled",
        "false",
    ]
    assert run(study, *words) == 0
    oof = read(tmp_path / "small-folds", "predictions_oof.csv")
    assert oof.groupby("repeat")["sample_id"].nunique().tolist() == [60, 60]
    first, second = (
        of.sort_values("sample_id")["fold"].tolist() for _, of in oof.groupby("repeat")
    )
    assert first != second
    board = read(tmp_path / "small-folds", "leaderboard.csv").set_index("model")
    assert (board.loc["tabular_only", ["n", "groups", "folds"]] == [120, 60, 4]).all()
    # The same sample twice is not two independent ones.
    assert board.loc["tabular_only", "pooled_test"] == "group bootstrap"


def test_the_audit_is_told_and_stops_what_it_refuses(study, tmp_path, capsys):
    root = shutil.copytree(study / "plates", tmp_path / "leaking")
    table = pd.read_csv(root / "samples.csv", dtype=str)
    table["age"] = [str(50 + 20 * (label == "case")) for label in table["label"]]
    table.to_csv(root / "samples.csv", index=False)
    words = ["--runs_dir", str(tmp_path / "runs"), "--data.root", str(root), "--folds", "2"]
    audited = [*words, "--audit.enabled", "true", "--baselines.models", "[covariates_logistic]"]
    assert run(study, *audited) == 2
    refused = capsys.readouterr().err
    assert "the audit refuses this cohort" in refused
    assert not (tmp_path / "runs").exists()
    name = refused.partition("--accept ")[2].split()[0]
    assert run(study, *audited, "--accept", name) == 0
    assert "refusal" in capsys.readouterr().out
    assert "(accepted)" in (tmp_path / "runs" / "small-folds" / "summary.md").read_text("utf-8")


COMMAND = "import sys; from experiments.cross_validate import main; sys.exit(main(sys.argv[1:]))"


def test_a_killed_cross_validation_ends_with_the_same_table(study, tmp_path):
    words = ["--folds", "2", "--models", "tabular_only", "mean_linear"]
    words += ["--trainer.max_epochs", "4", "--jobs", "2", "--data.num_workers", "0"]

    def start(place):
        line = [sys.executable, "-c", COMMAND, str(study / "small.yaml"), *words]
        return subprocess.Popen([*line, "--runs_dir", str(place)], stdout=subprocess.DEVNULL)

    for pattern in ("small*/checkpoints/last.pt", "small*/predictions.csv"):
        cut = start(tmp_path / "cut")
        end = time.monotonic() + 300
        while not list((tmp_path / "cut").glob(pattern)) and time.monotonic() < end:
            time.sleep(0.02)
        assert cut.poll() is None
        cut.send_signal(signal.SIGKILL)
        cut.wait()
    assert start(tmp_path / "cut").wait() == 0
    assert start(tmp_path / "whole").wait() == 0
    for name in ("leaderboard.csv", "predictions_oof.csv", "metrics.csv", "folds.csv"):
        tables = [(tmp_path / p / "small-folds" / name).read_bytes() for p in ("cut", "whole")]
        assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "a holdout has no folds"),
        (["--folds", "3", "--models", "tff"], "no family is called 'tff'; did you mean 'tft'"),
        (["--folds", "3", "--models", "all", "tft"], "all is all, and stands alone"),
        (["--folds", "3", "--grid", "optimizer.lr"], "expected KEY=VALUE,VALUE"),
        (["--folds", "3", "--grid", "data.seed=1,2"], "cannot differ between models"),
        (["--folds", "3", "--seeds", "0"], "expected a whole number from 1 on"),
        (
            ["--data.split.kind", "leave_one_group_out", "--repeats", "2"],
            "--repeats goes with a kfold",
        ),
        (
            ["--folds", "3", "--permutations", "9", "--baselines.enabled", "false"],
            "--permutations is of baselines: set baselines.enabled true",
        ),
        (["--folds", "3", "--of", "tabular_only"], "--of goes with --permutations or"),
        (
            ["--folds", "3", "--learning-curve", "--of", "tabular"],
            "'tabular' is neither baselines nor .* did you mean 'tabular_only'",
        ),
        (["--folds", "3", "--permutations", "2", "--of", "tft"], "nor one of the networks that"),
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
    place += ["--baselines.models", "[covariates_ridge]"]
    assert run(study, *words, *place, "--data.numeric", "[CRP, ALT]", "--folds", "2") == 0
    table = read(tmp_path / "small-folds", "predictions_oof.csv")
    found = read(tmp_path / "small-folds", "metrics.csv").set_index(["model", "metric"])
    for model in ("tabular_only", "covariates_ridge"):
        error = np.abs(table["target_age"] - table[f"{model}:prediction_age"]).mean()
        row = found.loc[model, "mae"]
        assert row["pooled"] == pytest.approx(error)
        assert row["low"] < error < row["high"]


def test_an_automatic_model_stands_in_the_leaderboard(cohort_dir, tmp_path, capsys):
    own = ["--data.root", str(cohort_dir), "--data.labels", "{control: 0, case: 1}"]
    own += ["--runs_dir", str(tmp_path), "--trainer.max_epochs", "1", "--trainer.device", "cpu"]
    own += ["--audit.enabled", "false", "--baselines.models", "[covariates_logistic]"]
    asked = ["auto", "--folds", "2", "--models", "auto", "tabular_only", *own]
    assert cross_validate.main(asked) == 0
    table = read(tmp_path / "auto-folds", "leaderboard.csv")
    assert {"auto", "tabular_only"} <= set(table["model"])
    saved = load_config(str(tmp_path / "auto-fold1" / "config.yaml"))
    assert saved.model.name == "ensemble"
    recommended = load_config(str(tmp_path / "auto-folds" / "recommended" / "config.yaml"))
    assert "auto" not in recommended.data.transforms
    capsys.readouterr()
    assert cross_validate.main(asked) == 0
    assert "[3/4] auto-fold1: finished before" in capsys.readouterr().out

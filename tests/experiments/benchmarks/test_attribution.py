"""The script around the measures: what falls short, what is printed, what the exit code is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from experiments.benchmarks import attribution
from experiments.benchmarks.attribution import HEADER, main, plan_runs, shortfalls, table_row
from experiments.benchmarks.faithfulness import Figures

GOOD = Figures(
    seed=0,
    auroc=0.93,
    found=7,
    drop=0.08,
    random_drop=0.016,
    gap=0.01,
    untrained=2,
    seconds=60.0,
    mebibytes=300.0,
)


@pytest.fixture
def measured(monkeypatch):
    """The script with figures that are given instead of measured."""

    def give(*figures):
        rows = iter(figures)
        monkeypatch.setattr(attribution, "run_all", lambda configs: None)
        monkeypatch.setattr(attribution, "read_subject", lambda folder: folder)
        monkeypatch.setattr(attribution, "measure", lambda subject: next(rows))

    return give


def test_figures_that_just_reach_what_was_set_do_not_fall_short():
    assert shortfalls(GOOD) == []


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        ({"found": 6}, "seed 0: 6 of 8 planted peaks"),
        ({"untrained": 3}, "an untrained model finds 3"),
        ({"drop": 0.079, "random_drop": 0.001}, "less likely by 0.079"),
        ({"random_drop": 0.02}, "that is 4.0 times"),
        ({"gap": 0.011}, "miss the logit difference by 1.10%"),
        ({"gap": float("nan")}, "miss the logit difference"),
        ({"seconds": 61.0}, "500 samples took 61 s"),
    ],
)
def test_each_figure_that_falls_short_is_named(worse, said):
    lines = shortfalls(replace(GOOD, **worse))
    assert len(lines) == 1
    assert said in lines[0]


def test_random_windows_that_cost_nothing_are_infinitely_less_important():
    assert replace(GOOD, random_drop=-0.001).ratio == float("inf")


def test_the_exit_code_says_whether_all_seeds_are_well(measured, capsys, tmp_path):
    measured(GOOD, replace(GOOD, seed=1))
    assert main(["--seeds", "0", "1"]) == 0
    assert "nothing falls short" in capsys.readouterr().out
    measured(GOOD, replace(GOOD, seed=1, found=5, random_drop=-0.1))
    out = tmp_path / "figures.json"
    assert main(["--seeds", "0", "1", "--out", str(out)]) == 1
    assert "seed 1: 5 of 8 planted peaks" in capsys.readouterr().out
    rows = json.loads(out.read_text())
    assert [row["found"] for row in rows] == [7, 5]
    assert rows[1]["ratio"] is None  # JSON knows no infinity


def test_a_row_stands_under_its_columns():
    row = table_row(GOOD)
    assert len(row) == len("  ".join(HEADER))
    assert "7/8" in row


def test_each_seed_draws_its_own_cohort_and_trains_the_default_model(tmp_path):
    configs = plan_runs([0, 4], tmp_path)
    assert [config.data.simulated.seed for config in configs.values()] == [0, 4]
    assert [config.seed for config in configs.values()] == [0, 4]
    assert {config.model.name for config in configs.values()} == {"tft"}


def test_what_cannot_be_used_is_one_line_and_another_exit_code(capsys, tmp_path):
    assert main(["--seeds", "1", "1"]) == 2
    assert capsys.readouterr().err == "error: --seeds: one of them is given twice\n"


def test_a_run_that_a_signal_stopped_ends_the_script_with_its_code(monkeypatch):
    monkeypatch.setattr(attribution, "run_all", lambda configs: 143)
    assert main(["--seeds", "0"]) == 143


@pytest.mark.slow
@pytest.mark.parametrize(
    "own", [["--config", "auto"], ["--model", "{name: pca_mlp, linear_path: true}"]]
)
def test_ensembles_and_linear_paths_are_measured(tmp_path, own):
    quick = ["--trainer.max_epochs", "1", "--trainer.device", "cpu", "--baselines.enabled", "false"]
    quick += ["--data.simulated.n_samples", "300", "--data.cache_dir", str(tmp_path / "cache")]
    out = tmp_path / "table.json"
    code = main(["--seeds", "0", "--runs", str(tmp_path / "runs"), "--out", str(out), *own, *quick])
    assert code in (0, 1)  # one epoch may fall short
    (row,) = json.loads(out.read_text())
    assert row["auroc"] > 0.5
    assert row["found"] > 0
    assert row["drop"] > 0

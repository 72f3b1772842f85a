from __future__ import annotations

import functools
import importlib.util
import json
from collections import Counter
from typing import Any

import pytest
import torch
from ignite.metrics import ROC_AUC

from experiments.benchmarks import overhead
from experiments.benchmarks.overhead import by_epoch_length, engines, main, measure, step_time
from experiments.benchmarks.tiny_task import make_task

FOUND = engines()
# Lightning's callback leaves the averaged weights in the model when training ends.
COMPARABLE = [
    (kind, name)
    for kind, of_kind in FOUND.items()
    for name in of_kind
    if name != "bare" and not (kind == "full" and name.startswith("lightning"))
]
# Share of the way that the weights have gone by which two engines' weights may differ.
SAME = 0.02


@pytest.fixture(scope="module")
def task():
    """Without weight decay, which this project's parameter groups keep from biases."""
    return make_task(steps=10, epochs=2, weight_decay=0.0)


@pytest.mark.parametrize(("kind", "name"), COMPARABLE)
def test_all_engines_train_to_the_same_weights(task, tmp_path, kind, name):
    expected = FOUND[kind]["bare"](task, tmp_path, lambda: None).state_dict()
    trained = FOUND[kind][name](task, tmp_path, lambda: None).state_dict()
    assert trained.keys() == expected.keys()
    start = task.make_model().state_dict()
    for key, weight in trained.items():
        # Adam makes more of rounding than other optimisers do, but not this much of a move.
        moved = (expected[key] - start[key]).abs().max()
        assert (weight - expected[key]).abs().max() < SAME * moved, key


@pytest.mark.parametrize("name", ["bare", "scanfire"])
def test_the_full_loops_measure_the_same(task, tmp_path, name):
    def last_epoch(engine):
        folder = tmp_path / engine
        folder.mkdir(exist_ok=True)
        FOUND["full"][engine](task, folder, lambda: None)
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [row.get("metrics", row) for row in rows if row.get("event", "epoch") == "epoch"][-1]

    expected, found = last_epoch("bare"), last_epoch(name)
    for metric in ("loss", "accuracy", "auroc"):
        for side in ("train", "val"):
            key = f"{side}/{metric}"
            assert found[key] == pytest.approx(expected[key], abs=1e-5)


@pytest.mark.parametrize(
    "name", [name for name in FOUND["full"] if name.startswith(("ignite", "monai"))]
)
def test_the_peers_measure_both_sides_in_each_epoch(task, tmp_path, monkeypatch, name):
    computed, compute = [], ROC_AUC.compute

    def noting(metric):
        computed.append(compute(metric))
        return computed[-1]

    monkeypatch.setattr(ROC_AUC, "compute", noting)
    FOUND["full"][name](task, tmp_path, lambda: None)
    assert len(computed) == 2 * task.epochs


def test_scanfire_runs_with_all_that_the_baseline_writes(task, tmp_path):
    FOUND["full"]["scanfire"](task, tmp_path, lambda: None)
    for written in (
        "log.jsonl",
        "metrics.csv",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "report/training_curves.html",
    ):
        assert (tmp_path / written).is_file(), written
    assert list((tmp_path / "events").iterdir())
    states = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)["states"]
    assert {"ema", "early_stopping", "lr_schedule", "epoch_metrics"} <= states.keys()


@pytest.mark.parametrize("kind", list(FOUND))
def test_every_engine_marks_each_epoch_and_the_end(task, tmp_path, kind):
    for name, train in FOUND[kind].items():
        marks: Counter[str] = Counter()
        train(task, tmp_path, functools.partial(marks.update, "."))
        assert marks["."] == task.epochs + 1, name


def test_the_first_epoch_is_left_out(monkeypatch):
    clock = iter([0.0, 100.0, 101.0, 103.0])
    monkeypatch.setattr(overhead.time, "perf_counter", lambda: next(clock))
    task = make_task(steps=10, epochs=3)

    def train(task, folder, mark):
        for _ in range(task.epochs + 1):
            mark()

    assert step_time(train, task) == pytest.approx(3.0 / 20 * 1e6)


def test_ratios_are_taken_within_a_round(monkeypatch):
    times = {"bare": iter([10.0, 20.0, 1000.0]), "other": iter([20.0, 30.0, 1000.0])}
    monkeypatch.setattr(overhead, "step_time", lambda name, task: next(times[name]))
    named: Any = {"bare": "bare", "other": "other"}  # what is measured is patched away
    table = measure(named, make_task(1, 1), rounds=3)
    assert table["other"] == {"us": 30.0, "ratio": 1.5}
    assert table["bare"] == {"us": 20.0, "ratio": 1.0}


def test_the_tables_are_printed_and_written(tmp_path, capsys):
    out = tmp_path / "overhead.json"
    arguments = ["--steps", "5", "--rounds", "1", "--engines", "scanfire", "--epoch-steps", "4"]
    assert main([*arguments, "--out", str(out)]) == 0
    tables = json.loads(out.read_text())
    assert tables.keys() == {"min", "full", "epoch_steps"}
    for table in (tables["min"], tables["full"], tables["epoch_steps"]["4"]):
        assert table.keys() == {"bare", "scanfire"}
        assert table["bare"]["ratio"] == 1
        assert all(row.keys() == {"us", "ratio"} and row["us"] > 0 for row in table.values())
    assert "scanfire" in capsys.readouterr().out


def test_a_peer_that_is_not_installed_is_left_out_and_named(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "lightning" else found(name)
    )
    assert not any(name.startswith("lightning") for name in engines()["full"])
    assert main(["--steps", "2", "--rounds", "1", "--engines", "bare"]) == 0
    assert "left out: lightning is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--engines", "scanfir"], "did you mean 'scanfire'"),
        (["--steps", "0"], "--steps: a whole number at least 1"),
        (["--epoch-steps", "500", "0"], "--epoch-steps: a whole number at least 1"),
        (["--rounds", "0"], "--rounds: a whole number at least 1"),
    ],
)
def test_a_wrong_argument_is_refused_in_a_line(capsys, arguments, line):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert line in error
    assert error.count("\n") == 1


def test_epochs_of_several_lengths_are_measured():
    tables = by_epoch_length([2, 3], rounds=1, names=["bare"])
    assert list(tables) == ["2", "3"]

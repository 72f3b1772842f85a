from __future__ import annotations

import json

import pytest

from engine import UsageError
from engine.reporting.metric_tables import as_json, read_log, write_metrics_csv, write_metrics_json


def epoch(number, **metrics):
    return {
        "event": "epoch",
        "time": "t",
        "epoch": number,
        "iteration": 5 * number,
        "optimizer_step": 5 * number,
        "seconds": 0.1,
        "metrics": metrics,
    }


ROWS = [
    {"event": "run_started", "time": "t"},
    epoch(1, loss=0.5, auroc=0.7),
    epoch(2, loss=0.4, auroc=None, lr=0.1),
    epoch(3, loss=0.3, auroc=0.9),
    epoch(4, loss="inf", auroc=0.9),
    {"event": "test_completed", "time": "t", "metrics": {"auroc": 0.8}},
]


def test_the_csv_holds_each_epoch_and_every_metric(tmp_path):
    write_metrics_csv(ROWS, tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text().splitlines() == [
        "epoch,iteration,optimizer_step,loss,auroc,lr",
        "1,5,5,0.5,0.7,",
        "2,10,10,0.4,,0.1",
        "3,15,15,0.3,0.9,",
        "4,20,20,inf,0.9,",
    ]


def test_the_json_names_best_last_and_test(tmp_path):
    write_metrics_json(ROWS, tmp_path / "m.json", "auroc", "max")
    summary = json.loads((tmp_path / "m.json").read_text())
    assert summary["best"] == {
        "epoch": 3,
        "iteration": 15,
        "optimizer_step": 15,
        "metrics": {"loss": 0.3, "auroc": 0.9},
    }
    assert summary["last"]["epoch"] == 4
    assert summary["test"] == {"metrics": {"auroc": 0.8}}


def test_the_best_follows_the_mode(tmp_path):
    write_metrics_json(ROWS, tmp_path / "m.json", "loss", "max")
    assert json.loads((tmp_path / "m.json").read_text())["best"]["epoch"] == 4
    write_metrics_json(ROWS, tmp_path / "m.json", "loss", "min")
    assert json.loads((tmp_path / "m.json").read_text())["best"]["epoch"] == 3


def test_without_epochs_or_monitor_there_is_no_best(tmp_path):
    write_metrics_json([], tmp_path / "m.json", "auroc")
    summary = json.loads((tmp_path / "m.json").read_text())
    assert (summary["best"], summary["last"], summary["test"]) == (None, None, None)
    write_metrics_json(ROWS, tmp_path / "m.json", None)
    assert json.loads((tmp_path / "m.json").read_text())["best"] is None


def test_a_line_cut_off_in_writing_is_passed_over(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "a"}\n{"event": "b", "x": 1}\n{"event": "c", "x"')
    assert [row["event"] for row in read_log(path)] == ["a", "b"]
    with pytest.raises(UsageError, match=r"cannot read the log .*none\.jsonl: No such file"):
        read_log(tmp_path / "none.jsonl")


def test_json_has_null_for_nan_and_text_for_infinity():
    found = as_json({"auroc": float("nan"), "loss": float("inf"), "n": (1, 2)})
    assert found == {"auroc": None, "loss": "inf", "n": [1, 2]}

"""The script with two processes; starting them takes most of the time, so it is done once."""

from __future__ import annotations

import json
import math

import pytest
import torch

from datasets.errors import UsageError
from experiments.benchmarks import scaling, scaling_worker
from experiments.benchmarks.scaling import (
    LaunchError,
    largest_difference,
    launch,
    main,
    row_of,
    shared_batches,
)
from experiments.benchmarks.scaling_worker import own_batches
from experiments.benchmarks.step_settings import StepSize

SIZE = [
    *("--samples", "8", "--scans", "4", "--points", "64", "--covariates", "3"),
    *("--d-model", "16", "--heads", "2", "--patch", "16"),
]
TINY = [*SIZE, "--device", "cpu", "--steps", "3", "--warmup", "2"]


def test_two_processes_train_together_and_measure_what_one_does(tmp_path, capsys):
    out = tmp_path / "scaling.json"
    assert main([*TINY, "--processes", "2", "--static-graph", "--out", str(out)]) == 0
    results = json.loads(out.read_text())
    (row,) = results["rows"]
    assert row["processes"] == 2
    assert len(row["ms_of_each"]) == 2
    assert row["samples_per_s"] == pytest.approx(2 * 8 * 1000 / max(row["ms_of_each"]))
    assert row["metrics_differ_by"] < 1e-6
    assert {"loss", "auroc"} <= row["metrics"].keys()
    assert results["static_graph"] is True
    assert results["overlap"] is True
    assert "efficiency" in capsys.readouterr().out


def settled(processes, settings, timeout):
    """What as many processes find that lose a quarter of their time to each other."""
    return [{"ms": 10.0 if processes == 1 else 40 / 3, "metrics": {"loss": 1.0}}] * processes


def test_rows_are_held_against_the_first(monkeypatch, capsys):
    monkeypatch.setattr(scaling, "launch", settled)
    monkeypatch.setattr(scaling, "measure_validation", lambda size, device: {"loss": 1.0})
    assert main([*TINY, "--processes", "1", "2", "4"]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[0] for line in shown] == ["1", "2", "4"]
    assert [line[4] for line in shown] == ["1.00", "1.50", "3.00"]
    assert [line[5] for line in shown] == ["100.0%", "75.0%", "75.0%"]


def test_other_metrics_than_one_process_has_are_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(scaling, "launch", settled)
    monkeypatch.setattr(scaling, "measure_validation", lambda size, device: {"loss": 1.00001})
    assert main([*TINY, "--processes", "2"]) == 1
    assert "2 processes measure other metrics than one" in capsys.readouterr().out


def test_a_launch_that_fails_is_told_and_the_others_go_on(monkeypatch, capsys):
    def fail(processes, settings, timeout):
        if processes == 1:
            raise LaunchError("exit code 1\nno memory")
        return settled(processes, settings, timeout)

    monkeypatch.setattr(scaling, "launch", fail)
    monkeypatch.setattr(scaling, "measure_validation", lambda size, device: {"loss": 1.0})
    assert main([*TINY, "--processes", "1", "2"]) == 1
    shown = capsys.readouterr().out
    assert "failed: exit code 1" in shown
    assert "no memory" in shown
    assert shown.splitlines()[-1].split()[0] == "2"


def test_processes_that_do_not_come_to_an_end_are_ended():
    with pytest.raises(LaunchError, match=r"not done after 0\.1 s"):
        launch(1, {"device": "cpu"}, timeout=0.1)


def test_the_slowest_process_counts():
    row = row_of([{"ms": 5.0, "metrics": {}}, {"ms": 8.0, "metrics": {}}], 4, None, {})
    assert row["ms"] == 8.0
    assert row["samples_per_s"] == 1000.0


def test_metrics_that_one_side_lacks_differ():
    nan = float("nan")
    assert largest_difference({"a": 1.0, "b": nan}, {"a": 1.5, "b": nan}) == 0.5
    assert largest_difference({"b": 1.0}, {"b": nan}) == math.inf
    assert largest_difference({}, {"b": 1.0}) == math.inf


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--processes", "0"], "--processes: a whole number at least 1"),
        (["--variant", "bf16-packt"], "did you mean 'packed'"),
        (["--device", "gpu"], "--device: device 'gpu' is unknown"),
    ],
)
def test_a_wrong_argument_is_refused_in_a_line(capsys, arguments, line):
    assert main([*TINY, *arguments]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


def test_no_more_processes_than_gpus_are_started(monkeypatch):
    monkeypatch.setattr(scaling, "best_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    options = scaling.argparse.Namespace(
        device="cuda", steps=None, warmup=None, processes=[4], variant=None
    )
    with pytest.raises(UsageError, match="4, but 2 GPUs"):
        scaling._measure(options)


@pytest.mark.parametrize(
    ("processes", "expected"), [([1], 8), ([1, 2], 16), ([2, 3], 24), ([1, 2, 4, 8], 64)]
)
def test_batches_can_be_shared_by_any_of_the_numbers_of_processes(processes, expected):
    assert shared_batches(processes, each=8) == expected


def test_however_many_processes_there_are_they_have_the_same_scans_to_encode(monkeypatch):
    size = StepSize(samples=8, scans=4, points=16, covariates=3)

    def scans(rank, world_size):
        monkeypatch.setattr(scaling_worker, "rank", lambda: rank)
        monkeypatch.setattr(scaling_worker, "world_size", lambda: world_size)
        batches = own_batches(size, 8, torch.device("cpu"))
        assert all(batch.spectra.shape == (8, 4, 16) for batch in batches)
        return [int(batch.mask.sum()) for batch in batches]

    alone, pair = scans(0, 1), [scans(rank, 2) for rank in (0, 1)]
    assert sorted(alone) == sorted(pair[0] + pair[1])
    apart = [abs(one - other) for one, other in zip(*pair, strict=True)]
    assert max(apart) < max(alone) - min(alone)

from __future__ import annotations

import json

import pytest

from experiments.benchmarks import size_tables, step_figures, throughput
from experiments.benchmarks.throughput import main

SIZE = [
    *("--samples", "8", "--scans", "4", "--points", "64", "--covariates", "3"),
    *("--d-model", "16", "--heads", "2", "--patch", "16"),
]
TINY = [*SIZE, "--device", "cpu", "--steps", "3", "--warmup", "1"]


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command; returns its exit code, its JSON and what it printed."""

    def call(*arguments):
        out = tmp_path / "out.json"
        code = main([*TINY, *arguments, "--out", str(out)])
        printed = capsys.readouterr()
        return code, json.loads(out.read_text()), printed.out

    return call


def test_every_variant_is_measured_against_the_first(run):
    code, results, shown = run("--rounds", "2", "--profile", "--profile-steps", "1")
    assert code == 0
    rows = results["steps"]["rows"]
    assert list(rows) == list(throughput.VARIANTS["cpu"])
    for name, row in rows.items():
        assert name in shown
        assert row["ms"] > 0
        assert row["samples_per_s"] == pytest.approx(8000 / row["ms"])
        assert row["scans_per_s"] / row["samples_per_s"] == pytest.approx(4 * 0.5, abs=0.7)
        assert 0 < row["useful_share"] < 1
        assert len(row["round_ms"]) == 2
        assert row["busy_ms"] is None
        assert row["groups"]["matmul"] > 0
        assert row["kernels"]
    assert rows["fp32"]["ratio"] == 1
    # What has to be done is the same, however it is done.
    assert len({row["useful_gflop"] for row in rows.values()}) == 1


def test_what_cannot_be_had_is_left_out_and_the_rest_is_measured(run, monkeypatch):
    build = step_figures.make_trainer

    def without_memory(size, variant, device, handlers):
        if variant.precision == "fp32" and not variant.packed and size.samples == 8:
            raise RuntimeError("out of memory\nTried to allocate")
        return build(size, variant, device, handlers)

    monkeypatch.setattr(step_figures, "make_trainer", without_memory)
    code, results, shown = run("--variants", "fp32", "fp32-packed", "--rounds", "1")
    assert code == 1
    assert list(results["steps"]["rows"]) == ["fp32-packed"]
    assert results["steps"]["left_out"] == {"fp32": "RuntimeError: out of memory"}
    assert "left out: fp32: RuntimeError: out of memory" in shown


def test_reading_from_a_memory_map_is_held_against_resident_batches(run, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    code, results, shown = run(
        *("--data", "memmap", "--cohort", "40", "--rounds", "2", "--folder", str(work))
    )
    assert code == 0
    assert list(work.iterdir()) == []
    row = results["wait"]["rows"]["fp32-packed"]
    assert row["memmap_ms"] > 0
    assert row["longer_by"] < 1
    assert 0 <= row["data_wait"] <= 1
    assert "40 samples" in shown


def test_memory_and_time_are_shown_against_each_size(run, monkeypatch):
    monkeypatch.setattr(size_tables, "SCANS", (4, 8))
    monkeypatch.setattr(size_tables, "POINT_FACTORS", (0.5, 1.0))
    monkeypatch.setattr(size_tables, "SHARES", (0.5, 1.0))
    monkeypatch.setattr(size_tables, "COHORT_FACTORS", (0.5, 1.0))
    code, results, shown = run("--sizes", "--cohort", "64")
    sizes = results["sizes"]
    assert code == 0
    for name, values in (("S", ["4", "8"]), ("L", ["32", "64"])):
        for checkpointed in (False, True):
            rows = [row for row in sizes[name] if row["checkpointed"] == checkpointed]
            assert [row["value"] for row in rows] == values
            assert rows[0]["us_a_scan_to_first"] == 1
            for row in rows:
                assert row["us_a_scan"] == pytest.approx(1000 * row["ms"] / row["scans"])
    scans = [row["scans"] for row in sizes["real scans"]]
    assert scans == pytest.approx([16, 32], abs=4)
    assert [row["samples"] for row in sizes["N"]] == [32, 64]
    assert all(row["us_a_sample"] > 0 for row in sizes["N"])
    assert "checkpointed" in shown


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--variants", "bf61"], "did you mean 'bf16'"),
        (["--steps", "0"], "--steps: a whole number at least 1"),
        (["--device", "gpu"], "--device: device 'gpu' is unknown"),
        (["--data", "memmap", "--cohort", "9"], "--cohort: two batches at least"),
    ],
)
def test_a_wrong_argument_is_refused_in_a_line(capsys, arguments, line):
    assert main([*TINY, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert line in error
    assert error.count("\n") == 1

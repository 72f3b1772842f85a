"""The script on a small cohort."""

from __future__ import annotations

import json

import pytest
import torch

from datasets.cohort import Cohort
from experiments.benchmarks.loader import COVARIATES, main, make_loaders, open_dataset, write_cohort

SMALL = ["--samples", "60", "--scans", "3", "--points", "32", "--batch-size", "8", "--rounds", "2"]


def test_every_loader_is_measured_and_nothing_is_left_behind(tmp_path, capsys):
    work, out = tmp_path / "work", tmp_path / "loader.json"
    work.mkdir()
    assert main([*SMALL, "--folder", str(work), "--out", str(out)]) == 0
    assert list(work.iterdir()) == []
    results = json.loads(out.read_text())
    assert results["samples"] == 60
    assert 0 < results["open_seconds"] < 30
    assert list(results["loaders"]) == ["naive", "getitem", "getitems", "buckets", "packed"]
    for name, row in results["loaders"].items():
        assert row["samples_per_s"] > 0
        assert (row["padding_percent"] < 30) == (name in ("buckets", "packed"))
    assert results["loaders"]["naive"]["ratio"] == 1
    shown = capsys.readouterr().out
    assert "60 samples" in shown
    assert all(name in shown for name in results["loaders"])


def test_all_loaders_yield_the_same_samples(tmp_path):
    write_cohort(tmp_path, 40, 3, 16)
    dataset, _ = open_dataset(tmp_path)
    found = []
    for loader in make_loaders(dataset, 8, 0).values():
        held = {}
        for batch in loader:
            padded = batch.to("cpu")
            for name, scans, mask in zip(
                padded.sample_id, padded.spectra, padded.mask, strict=True
            ):
                held[name] = scans[mask]
        found.append(held)
    for held in found[1:]:
        assert held.keys() == found[0].keys()
        assert all(torch.equal(held[name], found[0][name]) for name in held)


def test_the_cohort_is_one_that_can_be_read(tmp_path):
    write_cohort(tmp_path, 30, 8, 16)
    cohort = Cohort.read(tmp_path, numeric=list(COVARIATES))
    counts = [len(rows) for rows in cohort.scan_rows]
    assert len(cohort.sample_ids) == 30
    assert 1 <= min(counts) < max(counts) <= 15


def test_settings_that_measure_nothing_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--samples", "many"])
    assert main(["--rounds", "0"]) == 2
    assert "--rounds" in capsys.readouterr().err

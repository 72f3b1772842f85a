from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from datasets.errors import UsageError
from experiments.builders import scan_store
from experiments.builders.data import build_data
from experiments.runs import Experiment

CROP = {"name": "crop", "params": {"low": 4000, "high": 9000}}


def samples(data, side="val"):
    return data.datasets[side].__getitems__(range(len(data.datasets[side])))


@pytest.fixture
def make(make_config, tmp_path):
    def make(**changes):
        return make_config(**{"data.cache_dir": str(tmp_path / "cache"), **changes})

    return make


@pytest.mark.parametrize("transforms", [["tic", "sqrt", "standardize"], ["tic", CROP]])
@pytest.mark.parametrize("labels", [{"control": 0, "case": 1}, {"case": 0}])
def test_wherever_scans_are_kept_samples_are_the_same(make, transforms, labels):
    changes = {"data.transforms": transforms, "data.labels": labels}
    if len(labels) == 1:
        changes = {**changes, "data.task": "regression", "data.label": "age", "data.labels": None}
    kept = {
        where: samples(build_data(make(**changes, **{"data.cache": where})))
        for where in ("memory", "disk", "none", "auto")
    }
    for where in ("disk", "none", "auto"):
        for one, two in zip(kept["memory"], kept[where], strict=True):
            assert one.sample_id == two.sample_id
            np.testing.assert_array_equal(one.spectra, two.spectra)


def test_small_cohorts_are_kept_in_memory_large_ones_on_disk(make, tmp_path, monkeypatch, capsys):
    build_data(make())
    assert not (tmp_path / "cache" / "transformed").exists()
    monkeypatch.setattr(scan_store, "CACHE_LIMIT_BYTES", 1000)
    data = build_data(make())
    assert isinstance(data.datasets["train"].spectra, np.memmap)
    assert data.datasets["train"].transforms is None
    assert data.datasets["train"]._cached is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("transforming ")
    build_data(make())
    assert capsys.readouterr().out == ""


def test_without_transforms_nothing_is_written(make, tmp_path):
    data = build_data(make(**{"data.transforms": [], "data.cache": "disk"}))
    assert not (tmp_path / "cache" / "transformed").exists()
    assert data.datasets["train"]._cached is None


def test_a_full_disk_is_an_error_only_where_the_disk_was_asked_for(make, monkeypatch, capsys):
    expected = samples(build_data(make()))
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UsageError, match="has room for"):
        build_data(make(**{"data.cache": "disk"}))
    monkeypatch.setattr(scan_store, "CACHE_LIMIT_BYTES", 1000)
    found = samples(build_data(make(**{"data.cache": "auto"})))
    assert capsys.readouterr().out.endswith("they are transformed at each access\n")
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.spectra, two.spectra)


def test_a_cohort_of_covariates_alone_needs_no_store(make, cohort_dir, tmp_path):
    root = tmp_path / "covariates"
    root.mkdir()
    for name in ("samples.csv", "cohort.yaml"):
        shutil.copy(cohort_dir / name, root / name)
    data = build_data(make(**{"data.root": str(root), "data.cache": "disk"}))
    assert data.spec_len == 0
    assert next(iter(data.loaders["train"])).spectra.shape[2] == 0


@pytest.mark.slow
def test_a_run_from_disk_is_the_run_from_memory(make):
    runs = []
    for where in ("memory", "disk"):
        experiment = Experiment(
            make(exp_name=where, **{"data.cache": where, "report.enabled": False})
        )
        experiment.setup()
        experiment.train()
        experiment.test()
        runs.append(experiment)
    one, two = (torch.cat([p.flatten() for p in run.trainer.model.parameters()]) for run in runs)
    assert torch.equal(one, two)
    np.testing.assert_equal(runs[0].results, runs[1].results)  # NaN included

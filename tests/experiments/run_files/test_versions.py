from __future__ import annotations

import json
import os
import re
import shutil
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datasets.errors import UsageError
from engine.reporting import read_log
from experiments import run
from experiments.builders import build_data
from experiments.config import check_config, write_yaml
from experiments.run_files.versions import read_version
from experiments.runs import Experiment

pytestmark = pytest.mark.slow


@pytest.fixture
def own_cohort(cohort_dir, settings, tmp_path):
    """A copy of the cohort that may be changed; the settings name it."""
    root = tmp_path / "own"
    shutil.copytree(cohort_dir, root)
    settings["data"]["root"] = str(root)
    settings["report"]["enabled"] = False
    settings["audit"] = {"enabled": False}
    return root


def change_age(root, row=4):
    path = root / "samples.csv"
    table = pd.read_csv(path, dtype=str)
    table.loc[row, "age"] = "41"
    table.to_csv(path, index=False)


def add_patient(root):
    path = root / "samples.csv"
    table = pd.read_csv(path, dtype=str)
    new = table.iloc[[0]].assign(sample_id="new", group="new")
    pd.concat([table, new]).to_csv(path, index=False)
    scans = pd.read_csv(root / "scans.csv", dtype=str)
    new_scan = pd.DataFrame({"sample_id": ["new"], "scan": ["0"]})
    pd.concat([scans, new_scan]).to_csv(root / "scans.csv", index=False)
    spectra = np.load(root / "spectra.npy")
    np.save(root / "spectra.npy", np.concatenate([spectra, spectra[:1]]))


def fingerprint(config):
    return build_data(config).version.fingerprint


# What a fingerprint tells apart


def test_a_fingerprint_is_of_files_cleaning_and_split(own_cohort, make_config):
    first = fingerprint(make_config())
    assert len(first) == 12
    assert set(first) <= set("0123456789abcdef")
    same = {"model.params.dropout": 0.3, "optimizer.lr": 0.1, "data.augmentations": []}
    assert fingerprint(make_config(**same)) == first
    others: list[dict[str, Any]] = [
        {"data.split": {"seed": 5}},
        {"data.transforms": ["sqrt"]},
        {"data.log": ["CRP"]},
        {"data.numeric": ["age", "CRP"]},
        {"data.missing_indicators": False},
        {"data.covariate_encoding": "piecewise"},
        {"data.labels": {"control": 1, "case": 0}},
    ]
    found = {first} | {fingerprint(make_config(**changes)) for changes in others}
    assert len(found) == 1 + len(others)
    change_age(own_cohort)
    assert fingerprint(make_config()) not in found


def test_where_the_cohort_lies_changes_nothing(own_cohort, make_config, tmp_path):
    first = fingerprint(make_config())
    own_cohort.rename(tmp_path / "moved")
    assert fingerprint(make_config(**{"data.root": str(tmp_path / "moved")})) == first


def test_the_run_tells_its_fingerprint_in_every_place(own_cohort, make_config):
    experiment = Experiment(make_config(**{"trainer.max_epochs": 1}))
    experiment.run()
    said = experiment.data.version.fingerprint
    assert f"cohort fingerprint {said}" in experiment.data.describe()
    for name in ("summary.md", "model_card.md"):
        assert f"cohort fingerprint {said}" in (experiment.run_dir / name).read_text("utf-8")
    environment = json.loads((experiment.run_dir / "environment.json").read_text("utf-8"))
    assert environment["fingerprint"] == said
    assert environment["data"] == experiment.data.cohort.fingerprint()
    assert environment["preparation"]["classes"] == ["control", "case"]
    assert [t["name"] for t in environment["preparation"]["transforms"]] == [
        *("tic", "sqrt", "standardize")
    ]
    told = read_log(experiment.run_dir / "log.jsonl")[0]
    assert (told["event"], told["fingerprint"]) == ("cohort_read", said)
    assert read_version(experiment.run_dir) == experiment.data.version


# A run that goes on


ANOTHER = "{run} cannot be continued on another cohort: "
CHANGES = {
    ANOTHER + "samples.csv differs": (change_age, {}),
    ANOTHER + "samples.csv and scans.csv and spectra.npy differ": (add_patient, {}),
    'the run in {run} cannot be continued with data.transforms ["sqrt", "snv"]': (
        None,
        {"data.transforms": ["sqrt", "snv"]},
    ),
    'the run in {run} cannot be continued with data.numeric ["CRP"]': (
        None,
        {"data.numeric": ["CRP"], "data.log": ["CRP"]},
    ),
}


@pytest.mark.parametrize("line", CHANGES)
def test_a_run_is_not_continued_on_other_data(own_cohort, make_config, line):
    begun = Experiment(make_config())
    begun.setup()
    change, settings = CHANGES[line]
    if change is not None:
        change(own_cohort)
    with pytest.raises(UsageError) as caught:
        Experiment(make_config(**settings), begun.run_dir).setup()
    assert str(caught.value).startswith(line.format(run=begun.run_dir))


def test_a_run_goes_on_where_nothing_of_its_data_changed(own_cohort, make_config):
    begun = Experiment(make_config())
    begun.setup()
    os.utime(own_cohort / "samples.csv")  # as a copy might
    again = Experiment(make_config(**{"trainer.max_epochs": 1}), begun.run_dir)
    again.setup()
    assert again.data.version == begun.data.version


def test_a_checkpoint_of_an_edited_split_is_refused_as_such(own_cohort, make_config):
    begun = Experiment(make_config(**{"trainer.max_epochs": 1}))
    begun.setup()
    begun.train()
    path = begun.run_dir / "splits.csv"
    table = pd.read_csv(path, dtype=str)
    row = table.index[table["split"] == "train"][0]
    table.loc[row, "split"] = "val"
    table.to_csv(path, index=False)
    with pytest.raises(UsageError, match=r"does not belong to this run: the split differs$"):
        Experiment(make_config(**{"trainer.max_epochs": 2}), begun.run_dir).setup()


# A new run


def told_of_a_change(make_config, tmp_path, capsys, **changes):
    path = tmp_path / "settings.yaml"
    quick = {"trainer.max_epochs": 1, "model": {"name": "tabular_only"}, "report.resamples": 0}
    path.write_text(write_yaml(make_config(**quick | changes).plain()))
    assert run.main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith("the cohort is not the one of")]


def test_a_new_run_on_a_changed_cohort_is_told_so(own_cohort, make_config, tmp_path, capsys):
    assert told_of_a_change(make_config, tmp_path, capsys) == []
    assert told_of_a_change(make_config, tmp_path, capsys) == []
    change_age(own_cohort)
    said = ["the cohort is not the one of small-2: samples.csv differs"]
    assert told_of_a_change(make_config, tmp_path, capsys) == said
    log = read_log(tmp_path / "runs" / "small-3" / "log.jsonl")
    assert log[0]["changed"] == said[0]
    assert told_of_a_change(make_config, tmp_path, capsys) == []
    # Of a run of the same name the cleaning counts too, of another one only the files do.
    sqrt = {"data.transforms": ["sqrt"]}
    assert told_of_a_change(make_config, tmp_path, capsys, **sqrt) == [
        "the cohort is not the one of small-4: the preparation (transforms) differs"
    ]
    other = {"exp_name": "other", "data.transforms": ["tic"]}
    assert told_of_a_change(make_config, tmp_path, capsys, **other) == []
    change_age(own_cohort, row=5)
    assert told_of_a_change(make_config, tmp_path, capsys, exp_name="third") == [
        "the cohort is not the one of other: samples.csv differs"
    ]


def test_another_seed_is_no_change_of_the_cohort(own_cohort, make_config, tmp_path, capsys):
    assert told_of_a_change(make_config, tmp_path, capsys) == []
    assert told_of_a_change(make_config, tmp_path, capsys, seed=9) == []


# Large files


@pytest.fixture
def every_file_is_large(monkeypatch):
    monkeypatch.setattr("datasets.cohort.checksums.REMEMBERED_FROM_BYTES", 1)
    monkeypatch.setattr("datasets.cohort.checksums.SETTLED_AFTER_S", 0.0)
    monkeypatch.setattr("datasets.cohort.cohort.CHECKED_AT_ONCE_BYTES", 0)
    time.sleep(0.02)  # so that the files are older than the first look at the clock


def test_checksums_are_cached_until_verified(
    own_cohort, make_config, tmp_path, every_file_is_large
):
    cache = {"data.cache_dir": str(tmp_path / "cache")}
    files = dict(build_data(make_config(**cache)).version.files)
    entries = list((tmp_path / "cache" / "digests").iterdir())
    assert len(entries) == len(files)
    for entry in entries:
        known = json.loads(entry.read_text())
        entry.write_text(json.dumps(known | {"sha256": "remembered"}))
    assert set(build_data(make_config()).version.files.values()) == {"remembered"}
    assert build_data(make_config(**{"data.verify": True})).version.files == files
    assert build_data(make_config(**{"data.verify": False})).version.files == files


def test_a_bad_value_in_large_spectra_is_named_each_time(
    own_cohort, make_config, tmp_path, every_file_is_large
):
    spectra = np.load(own_cohort / "spectra.npy")
    spectra[3, 7] = np.nan
    np.save(own_cohort / "spectra.npy", spectra)
    scan = pd.read_csv(own_cohort / "scans.csv", dtype=str).iloc[3]
    whose = f"sample '{scan['sample_id']}', scan {scan['scan']}"
    line = re.escape(f"spectra.npy, row 3 ({whose}): nan at point 7")
    cache = {"data.cache_dir": str(tmp_path / "cache")}
    for _ in range(2):
        with pytest.raises(UsageError, match=line):
            Experiment(make_config(**cache)).setup()
    assert not (tmp_path / "runs").exists()


def test_a_run_without_a_version_is_no_obstacle(own_cohort, make_config):
    begun = Experiment(make_config())
    begun.setup()
    (begun.run_dir / "environment.json").write_text('{"data": {}}')
    assert read_version(begun.run_dir) is None
    Experiment(make_config(), begun.run_dir).setup()
    again = Experiment(make_config())
    again.setup()
    assert again.changed is None


def test_settings_of_a_finished_run_can_be_fed_back(own_cohort, make_config):
    values = make_config(**{"data.split": {"kind": "kfold", "fold": 2}}).plain()
    assert check_config(values).plain() == values

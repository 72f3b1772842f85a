from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from safetensors.torch import load

from datasets.errors import UsageError
from experiments.config import check_config, load_config
from experiments.run_files.package import (
    MANIFEST_NAME,
    read_package,
    without_places,
    write_package,
)
from experiments.runs import Experiment

pytestmark = pytest.mark.slow

PACKED = {
    "model_card.md",
    "summary.md",
    "config.yaml",
    "environment.json",
    "splits.csv",
    "metrics.csv",
    "metrics.json",
    "predictions.csv",
    "preprocessing.pt",
    "checkpoints/model.safetensors",
}
AUDIT, CURVES, RESOLVED = "audit.json", "report/training_curves.html", "resolved.yaml"
OF_BASELINES = {"predictions_baselines.csv", "predictions_val_baselines.csv", "baselines.skops"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cohort_dir) -> Experiment:
    runs = tmp_path_factory.mktemp("runs")
    experiment = Experiment(
        check_config(
            {
                "exp_name": "packed",
                "runs_dir": str(runs),
                "data": {"root": str(cohort_dir), "labels": {"control": 0, "case": 1}},
                "model": {"name": "tabular_only"},
                "trainer": {"max_epochs": 1, "batch_size": 16, "device": "cpu"},
                "report": {"resamples": 50, "attribution": {"steps": 8}},
                "baselines": {"models": ["covariates_logistic"]},
            }
        )
    )
    experiment.run()
    return experiment


@pytest.fixture
def run_dir(finished, tmp_path) -> Path:
    """A finished run to spoil, without its page, so that packing it takes no time."""
    folder = tmp_path / "packed"
    leave = shutil.ignore_patterns("report", "events", "*.zip")
    return Path(shutil.copytree(finished.run_dir, folder, ignore=leave))


@pytest.fixture
def package(run_dir) -> Path:
    return write_package(run_dir, "packed")


def rewrite(package: Path, changes: dict[str, bytes | None]) -> None:
    """Replace, add or (None) leave out files; the manifest stays as it was."""
    with zipfile.ZipFile(package) as archive:
        content: dict[str, bytes | None] = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(package, "w") as archive:
        for name, data in (content | changes).items():
            if data is not None:
                archive.writestr(name, data)


def test_a_packages_manifest_lists_all_its_files(finished):
    package = finished.run_dir / "packed.zip"
    files = read_package(package)
    assert files.keys() == PACKED | {AUDIT, CURVES, RESOLVED, "predictions_val.csv"} | OF_BASELINES
    with zipfile.ZipFile(package) as archive:
        assert archive.namelist() == [*files, MANIFEST_NAME]
        assert json.loads(archive.read(MANIFEST_NAME))["run"] == "packed"
        for name, packed in files.items():
            data = archive.read(name)
            assert packed == {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            if name not in ("config.yaml", "resolved.yaml", "environment.json"):
                assert data == (finished.run_dir / name).read_bytes()
        assert load(archive.read("checkpoints/model.safetensors")).keys() == (
            finished.trainer.model.state_dict().keys()
        )


def test_a_large_file_of_baselines_stays_outside(run_dir, monkeypatch):
    monkeypatch.setattr("experiments.run_files.package.MOST_BASELINES_BYTES", 100)
    files = read_package(write_package(run_dir, "packed"))
    assert "baselines.skops" not in files
    assert "predictions_baselines.csv" in files


def test_packing_a_run_twice_gives_the_same_bytes(run_dir, package):
    first = package.read_bytes()
    package.unlink()
    for path in run_dir.rglob("*"):
        os.utime(path, (1, 1))
    assert write_package(run_dir, "packed").read_bytes() == first


def test_exporting_again_replaces_the_package(run_dir, package):
    before = read_package(package)
    (run_dir / "summary.md").write_text("another")
    assert write_package(run_dir, "packed") == package
    after = read_package(package)
    assert {name for name in after if after[name] != before[name]} == {"summary.md"}


def test_no_place_on_this_machine_is_inside(finished, tmp_path):
    with zipfile.ZipFile(finished.run_dir / "packed.zip") as archive:
        archive.extractall(tmp_path)
        inside = {name: archive.read(name) for name in archive.namelist()}
    places = [finished.run_dir.parent, finished.data.cohort.root, Path.cwd(), Path.home()]
    for name, data in inside.items():
        found = [place for place in places if str(place).encode() + b"/" in data]
        assert not found, f"{name} names {found}"
        assert str(finished.data.cohort.root).encode() not in data
    assert not re.search(r"(^|[\s'=])/\w", json.loads(inside["environment.json"])["command"])
    config = load_config(str(tmp_path / "config.yaml"))
    assert config.data.root == Path(finished.data.cohort.root.name)
    own = finished.config.plain() | {"runs_dir": None, "data": None}
    assert config.plain() | {"runs_dir": None, "data": None} == own


def test_a_split_file_is_read_from_the_package(run_dir, tmp_path):
    text = (run_dir / "config.yaml").read_text()
    assert "file: null" in text
    (run_dir / "config.yaml").write_text(text.replace("file: null", "file: /else/where/mine.csv"))
    with zipfile.ZipFile(write_package(run_dir, "packed")) as archive:
        archive.extractall(tmp_path)
    assert load_config(str(tmp_path / "config.yaml")).data.split.file == Path("splits.csv")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/data/lab/x.yaml", "x.yaml"),
        ("/data/lab/my runs/", "my runs"),
        ("--data.root=/data/lab/hcc", "--data.root=hcc"),
        ("file:///data/lab/mlruns", "file:mlruns"),
        ("sqlite:////data/lab/ml.db", "sqlite:///ml.db"),
        ("D:\\lab\\hcc", "hcc"),
        ("-e /elsewhere/lab/scanfire", "-e scanfire"),
        ("thing @ file:///elsewhere/lab/thing.whl#sha256=ab", "thing @ file:thing.whl#sha256=ab"),
        ("thing @ https://example.org/a.whl", "thing @ https://example.org/a.whl"),
        ("https://example.org/a", "https://example.org/a"),
        ("runs/x", "runs/x"),
        ("/", "/"),
        (
            {"label": "/a/b", "params": {"log": ["/c/d"], "path": "/e/f"}},
            {"label": "/a/b", "params": {"log": ["/c/d"], "path": "f"}},
        ),
        ([1, None, 2.5], [1, None, 2.5]),
    ],
)
def test_of_a_place_the_last_name_is_kept(value, expected):
    assert without_places(value) == expected


@pytest.mark.parametrize("name", sorted(PACKED))
def test_the_file_that_was_changed_is_named(package, name):
    with zipfile.ZipFile(package) as archive:
        data = bytearray(archive.read(name))
    data[len(data) // 2] ^= 1
    rewrite(package, {name: bytes(data)})
    with pytest.raises(UsageError, match=rf"{name} is damaged, its checksum") as error:
        read_package(package)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*sorted(PACKED), MANIFEST_NAME])
def test_the_file_that_is_missing_is_named(package, name):
    rewrite(package, {name: None})
    with pytest.raises(UsageError, match=rf"packed.zip lacks {name}"):
        read_package(package)


def test_a_file_that_the_manifest_lacks_is_refused(package):
    rewrite(package, {"more.py": b"print()"})
    with pytest.raises(UsageError, match=r"holds more.py, which its MANIFEST.json does not list"):
        read_package(package)


def test_weights_that_do_not_open_are_refused(run_dir, package):
    before = package.read_bytes()
    weights = run_dir / "checkpoints" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(
        UsageError, match=r"^cannot package .*: packed.zip: .*model.safetensors cannot be"
    ):
        write_package(run_dir, "packed")
    assert package.read_bytes() == before
    assert not list(run_dir.glob(".*"))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_package_is_one_line(tmp_path, package, content):
    path = tmp_path / "other.zip"
    path.write_bytes(package.read_bytes()[:-100] if content is None else content)
    with pytest.raises(UsageError, match="is no whole package") as error:
        read_package(path)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="no package at"):
        read_package(tmp_path / "absent.zip")


def test_any_changed_byte_is_noticed(package):
    whole = package.read_bytes()
    expected = read_package(package)
    draw = random.Random(0)
    refused = []
    # All of the archive's directory, where most of the harm can be done, and some of the rest.
    places = [*draw.sample(range(len(whole)), 150), *draw.sample(range(-1100, 0), 300)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << draw.randrange(8)
        package.write_bytes(data)
        try:
            assert read_package(package) == expected  # a time stamp, say
        except UsageError as error:
            refused.append(str(error))
    assert len(refused) > len(places) // 2
    assert not [line for line in refused if "\n" in line]


def test_an_unexported_run_is_not_packed(run_dir):
    (run_dir / "predictions.csv").unlink()
    with pytest.raises(UsageError, match=r"lacks predictions.csv; export the run first"):
        write_package(run_dir, "packed")
    assert not list(run_dir.glob("*.zip"))


def test_on_a_full_disk_the_earlier_package_stands(run_dir, package, monkeypatch):
    before = package.read_bytes()
    (run_dir / "summary.md").write_text("another")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"^cannot package .*packed: No space left on device$"):
        write_package(run_dir, "packed")
    assert package.read_bytes() == before
    assert not list(run_dir.glob(".*"))

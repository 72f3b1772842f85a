from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest

from datasets.cohort import require_file
from datasets.errors import CohortError
from datasets.readers import READERS, RawScan
from datasets.readers.reader import is_archive, list_files, require_package, unpack

# Ending -> how such an archive is opened.
MODES: dict[str, Any] = {
    "tar": "w",
    "tar.gz": "w:gz",
    "tgz": "w:gz",
    "tar.bz2": "w:bz2",
    "tar.xz": "w:xz",
}


def test_arrays_become_float64_and_ties_on_the_axis_are_allowed():
    scan = RawScan("S", "0", np.array([1, 1, 2], np.float32), np.array([1, 2, 3]), "here")
    assert scan.mz.dtype == scan.intensity.dtype == np.float64
    assert scan.points == 3


@pytest.mark.parametrize(
    ("mz", "intensity", "message"),
    [
        ([1.0, 2.0], [1.0], "here: 2 points of the axis, but 1 intensities"),
        ([1.0, np.nan], [1.0, 1.0], "here: axis nan at point 1; finite was expected"),
        ([1.0, 2.0], [-np.inf, 1.0], "here: intensity -inf at point 0"),
        ([1.0, 3.0, 2.0], [1.0] * 3, "here: the axis falls, point 2 is 2 after 3"),
        ([[1.0]], [[1.0]], "here"),
    ],
)
def test_what_is_no_scan_is_refused(mz, intensity, message):
    with pytest.raises(CohortError) as caught:
        RawScan("S", "0", np.array(mz), np.array(intensity), "here")
    assert message in str(caught.value)


def is_text(name):
    return name.endswith(".txt")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "raw"
    for name in ("b/1.txt", "a/2.txt", "a/10.txt", "a/._2.txt", "a/notes.doc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_files_are_listed_by_path_without_hidden_ones(folder):
    files = list_files(folder, is_text, "text file")
    assert [file.name for file in files] == ["raw/a/10.txt", "raw/a/2.txt", "raw/b/1.txt"]
    assert [file.path.read_text() for file in files] == ["a/10.txt", "a/2.txt", "b/1.txt"]


def test_one_file_is_taken_as_it_is(folder):
    (file,) = list_files(folder / "a" / "notes.doc", is_text, "text file")
    assert file.name == "a/notes.doc"


def test_a_pattern_chooses_among_the_files(folder):
    files = list_files(folder, is_text, "text file", "*/b/*")
    assert [file.name for file in files] == ["raw/b/1.txt"]
    with pytest.raises(CohortError, match=r"none of 3 files matches '\*/c/\*'; the first is"):
        list_files(folder, is_text, "text file", "*/c/*")


def test_a_folder_without_such_files_is_refused(folder):
    with pytest.raises(CohortError, match=r"no spectrum in .*; it holds \.txt 3, \.doc 1"):
        list_files(folder, lambda name: False, "spectrum")


def test_a_missing_source_is_refused_with_the_nearest_name(folder):
    with pytest.raises(CohortError, match="did you mean 'raw'"):
        require_file(folder.with_name("rwa"), "file or folder", Path.exists)


@pytest.mark.parametrize("ending", MODES)
def test_an_archive_is_unpacked_under_its_own_name(folder, tmp_path, ending):
    path = tmp_path / f"measured.{ending}"
    with tarfile.open(path, MODES[ending]) as tar:
        tar.add(folder / "a", "a")
    assert is_archive(path)
    root = unpack(path, tmp_path / "scratch")
    files = list_files(root, is_text, "text file")
    assert [file.name for file in files] == ["measured/a/10.txt", "measured/a/2.txt"]


@pytest.mark.parametrize("ending", MODES)
def test_a_truncated_archive_is_refused(tmp_path, ending):
    whole = tmp_path / "whole.tar"
    with tarfile.open(whole, MODES[ending]) as tar:
        info = tarfile.TarInfo("a.txt")
        data = bytes(range(256)) * 400
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(whole.read_bytes()[:300])
    with pytest.raises(CohortError, match="cannot be unpacked") as caught:
        unpack(path, tmp_path / "scratch")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt"])
def test_nothing_is_unpacked_outside_of_the_folder(tmp_path, name):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    scratch = tmp_path / "scratch"
    if name.startswith("/"):  # taken as a path below the folder
        unpack(path, scratch)
        assert (scratch / "evil" / "tmp" / "outside.txt").exists()
    else:
        with pytest.raises(CohortError, match="cannot be unpacked"):
            unpack(path, scratch)
        assert not list(tmp_path.rglob("outside.txt"))


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(CohortError) as caught:
        require_package("no_such_package.part", "Parquet")
    assert str(caught.value).startswith("Parquet needs the package no_such_package, which")
    assert "pip install 'scanfire[import]'" in str(caught.value)


@pytest.mark.parametrize("name", ["mzml", "imzml", "parquet", "xlsx"])
def test_readers_say_beforehand_what_they_import(name, monkeypatch):
    modules = resolve_name(READERS[name])().modules
    assert modules
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(CohortError, match="which is not installed"):
            require_package(module, name)

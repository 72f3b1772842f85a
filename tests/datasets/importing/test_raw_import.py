from __future__ import annotations

import os
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from datasets.cohort import Cohort, file_sha256
from datasets.errors import CohortError
from datasets.importing.imported_cohort import CovariateTable, ImportRoles
from datasets.importing.raw_import import ImportSettings, RawImport
from datasets.importing.scan_intake import ScanFilter
from datasets.readers import READERS
from tests.datasets.readers.raw_files import Spectrum, write_bruker, write_mzml, write_wide_csv

AXIS = "100:112:3"


def read_tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def settings_for(source: Path, format: str, **changes: Any) -> ImportSettings:
    chosen = {"reader": resolve_name(READERS[format])(), "axis": AXIS, **changes}
    return ImportSettings(source, format, **chosen)


def run(settings: ImportSettings, out: Path, **options: Any):
    return RawImport(settings, out, **options).run()


def make_text(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ["case1", "case2", "control1", "control2"]:
        for scan in range(2):
            path = root / name / f"{name}_{scan}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(path, np.c_[np.arange(100, 111), rng.integers(1, 9, 11)], fmt="%d")
    return root


def make_bruker(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for species in ("s1", "s2"):
        for spot in ("A1", "A2"):
            for replicate in ("1", "2"):
                write_bruker(root / species, rng.integers(0, 99, 9000), spot, replicate)
    return root


def make_csv(root: Path) -> Path:
    root.mkdir()
    rng = np.random.default_rng(0)
    for part in ("a", "b"):
        rows = [(f"{part}{row}", "xy"[row % 2], *rng.integers(0, 9, 4)) for row in range(6)]
        write_wide_csv(root / f"{part}.csv", range(100, 104), rows, ["label"])
    return root


def make_mzml(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("a", "b"):
        spectra = [Spectrum(np.arange(100.0, 112), rng.random(12)) for _ in range(4)]
        write_mzml(root / f"{part}.mzML", spectra)
    return root


def make_npz(root: Path) -> Path:
    root.mkdir()
    names, spectra = [f"S{row}" for row in range(8)], np.random.default_rng(0).random((8, 12))
    np.savez(root / "all.npz", spectra=spectra, axis=np.arange(100.0, 112), sample_id=names)
    return root


SOURCES = {
    "text": (make_text, AXIS),
    "bruker": (make_bruker, "2000:9000:10"),
    "csv": (make_csv, "own"),
    "mzml": (make_mzml, AXIS),
    "npz": (make_npz, "100:112:2000ppm"),
}


# What is written


def test_a_folder_of_text_files_becomes_a_cohort(tmp_path):
    raw = make_text(tmp_path / "raw")
    naming = {"sample": r"/(\w+)/", "label": r"/([a-z]+)\d/"}
    settings = settings_for(raw, "text")
    settings = replace(settings, naming=replace(settings.naming, **naming))
    summary = run(settings, tmp_path / "out")
    assert (len(summary.joined.samples), len(summary.scans), summary.files) == (4, 8, 8)
    assert (summary.scans["low"].min(), summary.scans["high"].max()) == (100.0, 110.0)
    cohort = Cohort.read(tmp_path / "out")
    assert cohort.sample_ids == ["case1", "case2", "control1", "control2"]
    assert cohort.class_names == ["control", "case"]
    assert cohort.groups.tolist() == cohort.sample_ids
    assert cohort.axis.tolist() == [100, 103, 106, 109]
    first = np.loadtxt(raw / "case1" / "case1_0.txt")[:, 1]
    expected = [first[:2].mean(), first[2:5].mean(), first[5:8].mean(), first[8:11].mean()]
    np.testing.assert_allclose(cohort.spectra[0], expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("format", SOURCES)
def test_every_file_is_counted_described_and_checksummed(tmp_path, format):
    make, axis = SOURCES[format]
    raw, out = make(tmp_path / "raw"), tmp_path / "out"
    about = {"licence": "CC0-1.0", "units": {"axis": "m/z"}}
    summary = run(settings_for(raw, format, axis=axis, about=about), out)
    described = yaml.safe_load((out / "cohort.yaml").read_text())
    assert described["licence"] == "CC0-1.0"
    assert described["units"] == {"axis": "m/z"}
    assert described["provenance"]["format"] == format
    assert described["provenance"]["axis"] == axis
    assert described["provenance"]["scans"] == {"kept": len(summary.scans), "left_out": {}}
    beside = {path.name: file_sha256(path) for path in out.iterdir() if path.name != "cohort.yaml"}
    assert described["checksums"] == beside
    sources = pd.read_csv(out / "sources.csv")
    for name, size, checksum in sources.itertuples(index=False):
        file = tmp_path / name
        assert (file.stat().st_size, file_sha256(file)) == (size, checksum)
    assert len(sources) == described["provenance"]["source"]["files"]
    for content in read_tree(out).values():
        assert str(tmp_path).encode() not in content


@pytest.mark.parametrize("format", SOURCES)
def test_the_same_files_give_the_same_bytes_wherever_they_lie(tmp_path, format):
    make, axis = SOURCES[format]
    trees = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        raw = make(tmp_path / place / "raw")
        run(settings_for(raw, format, axis=axis), tmp_path / place / "out")
        trees.append(read_tree(tmp_path / place / "out"))
    assert trees[0] == trees[1]


@pytest.mark.slow
def test_an_archive_imports_like_the_folder_it_holds(tmp_path):
    raw = make_bruker(tmp_path / "raw")
    with tarfile.open(tmp_path / "raw.tar.gz", "w:gz") as tar:
        for entry in raw.iterdir():
            tar.add(entry, entry.name)
    folder, archive = tmp_path / "folder", tmp_path / "archive"
    run(settings_for(raw, "bruker", axis="2000:9000:10"), folder)
    run(settings_for(tmp_path / "raw.tar.gz", "bruker", axis="2000:9000:10"), archive)
    ours, theirs = read_tree(folder), read_tree(archive)
    described = yaml.safe_load(theirs.pop("cohort.yaml"))
    ours.pop("cohort.yaml")
    assert ours == theirs
    assert described["provenance"]["source"]["sha256"] == file_sha256(tmp_path / "raw.tar.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "archive",
        "folder",
        "raw",
        "raw.tar.gz",
    ]


def test_covariates_are_joined_and_what_does_not_match_is_listed(tmp_path):
    raw = make_csv(tmp_path / "raw")
    rows = {f"a{row}": {"age": str(60 + row), "plate": f"p{row // 2}"} for row in range(6)}
    table = CovariateTable(["age", "plate"], {**rows, "z1": {"age": "1", "plate": "p9"}})
    roles = ImportRoles(group="plate", numeric=("age",))
    settings = settings_for(raw, "csv", axis="own", covariates=table, roles=roles)
    summary = run(settings, tmp_path / "out")
    assert summary.joined.without_row == [f"b{row}" for row in range(6)]
    assert summary.joined.without_sample == ["z1"]
    assert summary.roles == {
        "label": "label",
        "group": "plate",
        "numeric": ["age"],
        "categorical": [],
    }
    samples = pd.read_csv(tmp_path / "out" / "samples.csv", dtype=str)
    assert samples.columns.tolist() == ["sample_id", "label", "age", "plate"]
    assert samples["age"].tolist()[:6] == ["60", "61", "62", "63", "64", "65"]
    assert samples["age"].isna().sum() == 6


def test_scans_that_are_left_out_are_counted_and_listed(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"S{row}", *rng.integers(90, 99, 4)) for row in range(30)]
    rows[4] = ("S4", 0, 0, 0, 0)
    rows[7] = ("S7", 81, 99, 99, 99)
    rows[9] = ("S9", 5000, 1, 1, 1)
    write_wide_csv(tmp_path / "raw.csv", range(100, 104), rows)
    reasons = ScanFilter(["empty", "saturated", "tic"])
    out = tmp_path / "out"
    summary = run(settings_for(tmp_path / "raw.csv", "csv", axis="own", scan_filter=reasons), out)
    left_out = summary.scans["left_out"]
    assert left_out.value_counts().to_dict() == {"empty": 1, "saturated": 1, "tic": 1}
    assert left_out[[4, 7, 9]].tolist() == ["empty", "saturated", "tic"]
    assert summary.samples_left_out == ["S4", "S7", "S9"]
    assert pd.read_csv(out / "left_out.csv")["reason"].tolist() == ["empty", "saturated", "tic"]
    kept = [row for row in rows if row[0] not in ("S4", "S7", "S9")]
    assert pd.read_csv(out / "samples.csv")["sample_id"].tolist() == [row[0] for row in kept]
    np.testing.assert_array_equal(np.load(out / "spectra.npy"), [row[1:] for row in kept])


def test_without_a_filter_empty_scans_stay_and_are_said(tmp_path):
    write_wide_csv(tmp_path / "raw.csv", [1, 2], [("S1", 0, 0), ("S2", 1, 2)])
    summary = run(settings_for(tmp_path / "raw.csv", "csv", axis="own"), tmp_path / "out")
    assert (len(summary.scans), summary.scans["zero"].sum()) == (2, 1)


# Cut and gone on with


class CutError(Exception):
    """Stands for a kill: nothing is done about it."""


@pytest.mark.parametrize("after", [1, 3, 4, 7])
@pytest.mark.parametrize("format", SOURCES)
def test_a_cut_import_ends_with_the_same_bytes(tmp_path, format, after):
    make, axis = SOURCES[format]
    raw = make(tmp_path / "raw")
    reasons = ScanFilter(["tic"], spread=0.5) if after == 3 else ScanFilter()
    settings = settings_for(raw, format, axis=axis, scan_filter=reasons)
    run(settings, tmp_path / "whole")

    def watch(done, files, scans):
        if scans == after:
            raise CutError

    with pytest.raises(CutError):
        RawImport(settings, tmp_path / "cut", checkpoint_seconds=0.0).run(watch)
    assert not (tmp_path / "cut").exists()
    again = RawImport(settings, tmp_path / "cut")
    assert again.writer.continues
    seen = []
    again.run(lambda done, files, scans: seen.append(scans))
    assert seen[0] == after + 1
    assert read_tree(tmp_path / "cut") == read_tree(tmp_path / "whole")


@pytest.mark.parametrize("change", ["source", "settings"])
def test_another_source_or_other_settings_are_not_gone_on_with(tmp_path, change):
    raw = make_csv(tmp_path / "raw")
    settings = settings_for(raw, "csv", axis="own")

    def watch(done, files, scans):
        raise CutError

    with pytest.raises(CutError):
        RawImport(settings, tmp_path / "out", checkpoint_seconds=0.0).run(watch)
    if change == "source":
        with (raw / "b.csv").open("a") as file:
            file.write("b9,x,1,2,3,4\n")
        message = "another source: .*2 files of"
    else:
        settings = replace(settings, axis="100:104:1")
        message = "another axis"
    with pytest.raises(CohortError, match=message):
        RawImport(settings, tmp_path / "out")
    assert (tmp_path / "out.partial").is_dir()


def test_a_full_disk_costs_nothing_but_time(tmp_path, monkeypatch):
    settings = settings_for(make_csv(tmp_path / "raw"), "csv", axis="own")
    run(settings, tmp_path / "whole")
    flush, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 20:
            raise OSError(28, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run(settings, tmp_path / "cut", checkpoint_seconds=0.0)
    run(settings, tmp_path / "cut")
    assert read_tree(tmp_path / "cut") == read_tree(tmp_path / "whole")


# Memory


def peak_bytes(settings: ImportSettings, out: Path) -> int:
    """The most that Python and NumPy held at once while importing."""
    tracemalloc.start()
    try:
        RawImport(settings, out).run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("format", ["csv", "npz"])
def test_memory_does_not_grow_with_the_number_of_scans(tmp_path, format):
    points, peaks, sizes = 1000, [], []
    for rows in (200, 1200):
        spectra = np.random.default_rng(0).random((rows, points)).round(3)
        names = [f"S{row}" for row in range(rows)]
        path = tmp_path / f"{rows}.{format}"
        if format == "npz":
            np.savez(path, spectra=spectra, axis=np.arange(float(points)), sample_id=names)
        else:
            pairs = zip(names, spectra.tolist(), strict=True)
            write_wide_csv(path, range(points), [(name, *row) for name, row in pairs])
        settings = settings_for(path, format, axis="0:1000:2", scan_filter=ScanFilter(["tic"]))
        peaks.append(peak_bytes(settings, tmp_path / f"out{rows}"))
        sizes.append(spectra.nbytes)
    # Six times the scans, hardly more memory: their names and records, no spectra.
    assert peaks[1] - peaks[0] < 0.2 * (sizes[1] - sizes[0])
    assert peaks[1] < sizes[1]


# What is refused leaves nothing


def break_second(raw: Path) -> None:
    path = raw / "case1" / "case1_1.txt"
    path.write_text(path.read_text() + "inf inf\n")


def name_twice(raw: Path) -> None:
    (raw / "again").mkdir()
    (raw / "again" / "case1_0.txt").write_text("100 1\n101 2\n")


def empty_all(raw: Path) -> None:
    for path in raw.rglob("*.txt"):
        path.write_text("100 0\n")


REFUSED: dict[str, tuple[Any, dict[str, Any]]] = {
    "case1_1.txt: axis inf at point 11": (break_second, {}),
    "duplicate: sample 'case1_0', scan '0'": (name_twice, {}),
    "the filter leaves none of 8 scans": (empty_all, {"scan_filter": ScanFilter(["empty"])}),
    "no column 'plate' for the role group": (None, {"roles": ImportRoles(group="plate")}),
    "nothing of the axis (4000 to 4002)": (None, {"axis": "4000:4003:1"}),
    "mixed axes": (lambda raw: (raw / "z.txt").write_text("1 2\n3 4\n"), {"axis": "own"}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_an_import_that_is_refused_leaves_nothing(tmp_path, message):
    raw = make_text(tmp_path / "raw")
    damage, changes = REFUSED[message]
    if damage:
        damage(raw)
    settings = settings_for(raw, "text", **changes)
    with pytest.raises(CohortError) as caught:
        run(settings, tmp_path / "out", checkpoint_seconds=0.0)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_source_that_cannot_be_opened_is_refused(tmp_path, monkeypatch):
    raw = make_text(tmp_path / "raw")
    opened = Path.open

    def forbidden(path, *arguments, **settings):
        if path.name == "case2_0.txt" and "b" not in str(arguments):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(CohortError, match=r"case2_0\.txt cannot be read: .*Permission denied"):
        run(settings_for(raw, "text"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_names_from_paths_are_refused_for_self_naming_files(tmp_path):
    settings = settings_for(make_csv(tmp_path / "raw"), "csv", axis="own")
    named = replace(settings, naming=replace(settings.naming, sample="S"))
    with pytest.raises(CohortError, match="csv files name their samples themselves"):
        RawImport(named, tmp_path / "out")

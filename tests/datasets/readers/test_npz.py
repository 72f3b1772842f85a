from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datasets.readers.npz import NpzReader

SPECTRA = np.arange(6, dtype=np.float32).reshape(2, 3)
ARRAYS = {"spectra": SPECTRA, "axis": np.array([1.0, 2.0, 3.0]), "sample_id": ["S1", "S2"]}


@pytest.fixture
def write(tmp_path):
    def save(compressed=False, **changes):
        path = tmp_path / "data.npz"
        arrays = {name: value for name, value in {**ARRAYS, **changes}.items() if value is not None}
        (np.savez_compressed if compressed else np.savez)(path, **arrays)
        return path

    return save


@pytest.mark.parametrize("compressed", [False, True])
def test_rows_are_scans_with_what_is_known_of_them(write, read, compressed):
    path = write(compressed, label=["case", "control"], age=[61.0, 50.5], classes=["a", "b", "c"])
    scans = read(NpzReader(), path)
    assert [scan.sample_id for scan in scans] == ["S1", "S2"]
    np.testing.assert_array_equal([scan.intensity for scan in scans], SPECTRA)
    assert scans[1].mz.tolist() == [1.0, 2.0, 3.0]
    assert scans[1].columns == {"label": "control", "age": "50.5"}


def test_each_row_may_have_an_axis_of_its_own(write, read):
    axes = np.array([[1.0, 2.0, 3.0], [1.5, 2.5, 3.5]])
    scans = read(NpzReader(), write(axis=axes))
    np.testing.assert_array_equal([scan.mz for scan in scans], axes)


def test_scan_tells_the_rows_of_a_sample_apart(write, read):
    scans = read(NpzReader(), write(sample_id=["S1", "S1"], scan=[4, 5]))
    assert [(scan.sample_id, scan.scan) for scan in scans] == [("S1", "4"), ("S1", "5")]


REFUSED: dict[str, dict[str, Any]] = {
    "has no array 'spectra'; did you mean 'spectr'?": {"spectra": None, "spectr": SPECTRA},
    "has no array 'sample_id'": {"sample_id": None},
    "axis is [2], spectra [2, 3]; an axis of 3 points": {"axis": [1.0, 2.0]},
    "spectra is [6]": {"spectra": SPECTRA.ravel()},
    "sample_id is not [2]": {"sample_id": ["S1"]},
    "spectra holds <U1, no numbers": {"spectra": SPECTRA.astype(int).astype("U1")},
    "sample_id holds Python objects": {"sample_id": np.array(["S1", None], dtype=object)},
    "spectra is stored by columns": {"spectra": np.asfortranarray(SPECTRA)},
    "row 1 (sample 'S2'): intensity nan at point 2": {
        "spectra": np.where(SPECTRA == 5, np.nan, SPECTRA)
    },
    "row 0 (sample 'S1'): the axis falls": {"axis": [3.0, 2.0, 1.0]},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_broken_archive_is_refused(write, refusal, message):
    assert message in refusal(NpzReader(), write(**REFUSED[message]))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_archive_is_refused(write, refusal, share):
    path = write()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "data.npz is damaged" in refusal(NpzReader(), path)


def test_an_array_that_ends_early_is_refused(write, refusal):
    path = write()
    # The header of the stored array now says one row more than there is.
    path.write_bytes(path.read_bytes().replace(b"(2, 3), }", b"(3, 3), }"))
    assert "data.npz" in refusal(NpzReader(), path)

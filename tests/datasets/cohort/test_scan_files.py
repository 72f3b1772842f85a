from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets.cohort import cohort as cohort_module
from datasets.cohort.cohort import find_scan_rows
from datasets.errors import CohortError

# What scans.csv may not hold is tested with the cohort that it is a part of.


@pytest.mark.slow
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_rows_of_a_sample_are_in_the_order_of_its_scans(owners, random):
    names = pd.Index([f"s{number}" for number in range(6)], dtype=object)
    numbers = random.sample(range(100), len(owners))
    scans = pd.DataFrame(
        {"sample_id": names[owners], "scan": list(map(str, numbers))}, dtype=object
    )
    found = find_scan_rows(scans, names, "scans.csv")
    assert sorted(np.concatenate(found)) == list(range(len(owners)))
    for number, rows in enumerate(found):
        assert rows.dtype == np.int64
        assert [owners[row] for row in rows] == [number] * len(rows)
        assert [numbers[row] for row in rows] == sorted(numbers[row] for row in rows)


@pytest.mark.parametrize(
    "names",
    [
        ["20240101120000002", "20240101120000001"],
        ["1.0000000000000001", "1"],
        ["01", "1"],
        ["1e2", "100"],
        ["b", "a", "10", "9"],
    ],
)
def test_scan_names_are_compared_as_text(names):
    scans = pd.DataFrame({"sample_id": ["s"] * len(names), "scan": names}, dtype=object)
    (rows,) = find_scan_rows(scans, pd.Index(["s"], dtype=object), "scans.csv")
    assert sorted(rows) == list(range(len(names)))


def test_large_integers_are_ordered_exactly():
    names = ["9007199254740993", "9007199254740992", "9007199254740991", "7"]
    scans = pd.DataFrame({"sample_id": ["s"] * 4, "scan": names}, dtype=object)
    (rows,) = find_scan_rows(scans, pd.Index(["s"], dtype=object), "scans.csv")
    assert rows.tolist() == [3, 2, 1, 0]


def test_a_name_that_stands_twice_is_refused_by_its_text():
    scans = pd.DataFrame({"sample_id": ["s"] * 3, "scan": ["01", "1", "01"]}, dtype=object)
    with pytest.raises(CohortError, match="scan '01' more than once"):
        find_scan_rows(scans, pd.Index(["s"], dtype=object), "scans.csv")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_spectrum_that_is_not_finite_is_named(
    write_cohort, tmp_path, monkeypatch, value, refusal
):
    # So that row 23 is in the fifth piece.
    monkeypatch.setattr("datasets.scans.CHUNK_BYTES", 5 * 32 * 4)

    def spoil(spectra):
        spectra[23, 17] = value
        return spectra

    root = write_cohort(tmp_path, spectra=spoil)
    owner = pd.read_csv(root / "scans.csv", dtype=str).iloc[23]
    said = refusal(root)
    assert f"row 23 (sample '{owner['sample_id']}', scan {owner['scan']}): {value}" in said
    assert "at point 17" in said


@pytest.mark.parametrize("name", ["spectra.npy", "axis.npy"])
@pytest.mark.parametrize("damage", ["empty", "cut", "other", "archive"])
def test_a_damaged_array_is_refused(write_cohort, tmp_path, name, damage, refusal):
    path = write_cohort(tmp_path) / name
    if damage == "archive":
        np.savez(tmp_path / "archive.npz", x=np.zeros(3))
        path.write_bytes((tmp_path / "archive.npz").read_bytes())
    else:
        whole = path.read_bytes()
        path.write_bytes(
            {"empty": b"", "cut": whole[:-9], "other": b"m/z,intensity\n" * 99}[damage]
        )
    assert f"{path} cannot be read as an .npy array" in refusal(tmp_path)


def test_a_pickle_is_never_loaded(write_cohort, tmp_path, refusal):
    class Bomb:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'fired')!r}, 'w')",)

    for name in ("spectra.npy", "axis.npy"):
        root = write_cohort(tmp_path)
        np.save(root / name, np.array([Bomb()], dtype=object), allow_pickle=True)
        refusal(root)
        (root / name).write_bytes(pickle.dumps(Bomb()))
        refusal(root)
    assert not (tmp_path / "fired").exists()


@pytest.mark.parametrize("dtype", [">f4", ">f8", "longdouble", "f2", ">i8", "u2", "i1"])
def test_the_axis_is_native_whatever_its_file_holds(tmp_path, dtype):
    axis = np.arange(1, 33)
    np.save(tmp_path / "axis.npy", axis.astype(dtype))
    read = cohort_module.read_axis(tmp_path / "axis.npy")
    assert read.dtype in (np.dtype("f4"), np.dtype("f8"))
    assert read.dtype.isnative
    assert torch.from_numpy(read).tolist() == axis.tolist()


def test_an_axis_that_only_a_wider_type_tells_apart_is_refused(tmp_path):
    np.save(tmp_path / "axis.npy", np.array([2**53, 2**53 + 1, 2**53 + 2]))
    with pytest.raises(CohortError, match=r"not strictly increasing: point 1 .* as float64"):
        cohort_module.read_axis(tmp_path / "axis.npy")
    np.save(tmp_path / "axis.npy", np.array([1, np.finfo(np.longdouble).max], np.longdouble))
    with pytest.raises(CohortError, match="holds inf at point 1"):
        cohort_module.read_axis(tmp_path / "axis.npy")


@pytest.mark.parametrize("dtype", [">f4", "f8", "f2", "longdouble", "i4"])
def test_spectra_of_another_type_are_refused(write_cohort, tmp_path, refusal, dtype):
    write_cohort(tmp_path, spectra=lambda spectra: spectra.astype(dtype))
    assert "write them again with numpy: spectra.astype('float32')" in refusal(tmp_path)

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from datasets import arrays


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_spectrum_that_is_not_finite_is_named(
    write_cohort, tmp_path, monkeypatch, value, refusal
):
    monkeypatch.setattr(arrays, "CHECK_BYTES", 5 * 32 * 4)  # so that row 23 is in the fifth piece

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

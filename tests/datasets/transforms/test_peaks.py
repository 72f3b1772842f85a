from __future__ import annotations

import numpy as np
import pytest

from datasets.transforms import PickPeaks
from datasets.transforms.peaks import find_peaks, peak_tops
from tests.datasets.transforms.made_spectra import peaks_at

AXIS = np.arange(300.0)


def test_peaks_keep_their_height_and_all_else_is_zero():
    scan = peaks_at(AXIS)([50, 120, 250], [10, 5, 8])
    scan += np.random.default_rng(0).normal(0, 0.1, 300).astype(np.float32)
    out = PickPeaks(snr=6, half_window=8)(scan)
    kept = np.flatnonzero(out)
    assert len(kept) == 3
    assert np.abs(kept - [50, 120, 250]).max() <= 1
    np.testing.assert_array_equal(out[kept], scan[kept])


def test_what_does_not_stand_out_of_the_noise_is_no_peak():
    noise = np.random.default_rng(0).normal(5, 1, (50, 2000)).astype(np.float32)
    share = [find_peaks(noise, snr, 3).mean() for snr in (0, 2, 5)]
    assert share[0] > 0.05
    assert share[1] < 0.03
    assert share[2] == 0
    noise[:, 700] += 20
    assert find_peaks(noise, 5, 3)[:, 700].all()


def test_of_two_close_peaks_the_larger_one_is_kept():
    scan = peaks_at(AXIS, width=1.5)([100, 106], [5, 9])
    assert np.flatnonzero(find_peaks(scan, 3, 4)).tolist() == [100, 106]
    assert np.flatnonzero(find_peaks(scan, 3, 6)).tolist() == [106]


def test_the_width_keeps_points_beside_the_top():
    scan = peaks_at(AXIS)([100], [5])
    out = PickPeaks(width=2)(scan)
    assert np.flatnonzero(out).tolist() == [98, 99, 100, 101, 102]
    np.testing.assert_array_equal(out[98:103], scan[98:103])


def test_a_flat_top_is_one_peak_and_an_end_is_none():
    scan = np.array([9, 0, 0, 0, 4, 4, 4, 0, 0, 0, 9], dtype=np.float32)
    assert np.flatnonzero(find_peaks(scan, 0, 1)).tolist() == [4]


@pytest.mark.parametrize("place", [100.0, 100.3, 99.6, 100.5])
def test_a_top_is_found_between_the_points(place):
    scans = np.stack([peaks_at(AXIS)([place, 200]), peaks_at(AXIS)([place + 20, 250])])
    tops = peak_tops(scans, find_peaks(scans, 3, 5))
    np.testing.assert_allclose(tops, [place, 200, place + 20, 250], atol=0.02)

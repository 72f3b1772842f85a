from __future__ import annotations

import warnings

import numpy as np
import pytest
from pybaselines import Baseline
from scipy.signal import savgol_filter

from datasets.transforms import SNIP, AsLS, SavitzkyGolay, TopHat, make_transforms
from tests.datasets.transforms.made_spectra import peaks_at, spectra

AXIS = np.arange(1000.0)
PLACES, HEIGHTS = (200, 450, 700), (60.0, 100.0, 40.0)
BASELINE = (80 * np.exp(-AXIS / 400) + 10).astype(np.float32)
PEAKS = peaks_at(AXIS, width=4)(PLACES, HEIGHTS)

REMOVERS = [SNIP(30), TopHat(30), AsLS(lam=1e6, p=0.001)]


def theirs(name: str, scans: np.ndarray, **params: object) -> np.ndarray:
    """Scans without the baseline that pybaselines finds."""
    fitter, left = Baseline(np.arange(scans.shape[1])), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of windows wider than the scan
        for scan in scans.astype(np.float64):
            left.append(scan - getattr(fitter, name)(scan, **params)[0])
    return np.array(left)


@pytest.mark.parametrize("remove", REMOVERS, ids=lambda remove: type(remove).__name__)
def test_the_baseline_goes_and_the_peaks_stay(remove):
    left = remove(np.stack([PEAKS + BASELINE, PEAKS + 3 * BASELINE]))
    # At a steep end, a box or a stiff curve cannot follow.
    inside, places = slice(60, -60), list(PLACES)
    np.testing.assert_allclose(left[0][inside], PEAKS[inside], atol=5)
    np.testing.assert_allclose(left[1][inside], PEAKS[inside], atol=15)
    np.testing.assert_allclose(left[0][places], HEIGHTS, rtol=0.06)
    assert np.abs(left[0] - PEAKS)[inside].mean() < 0.1 * BASELINE[inside].mean()


@pytest.mark.parametrize("remove", [SNIP(30), TopHat(30)], ids=["SNIP", "TopHat"])
def test_nothing_is_left_below_zero(remove):
    noisy = PEAKS + BASELINE + np.random.default_rng(0).normal(0, 3, (20, 1000))
    assert remove(noisy.astype(np.float32)).min() >= 0


def test_noise_is_left_on_both_sides_of_zero_by_least_squares():
    noisy = BASELINE + np.random.default_rng(0).normal(0, 3, (20, 1000)).astype(np.float32)
    assert abs(np.median(AsLS(lam=1e6, p=0.3)(noisy))) < 1.5


@pytest.mark.parametrize("points", [3, 4, 7, 64, 333])
@pytest.mark.parametrize("half_window", [1, 2, 5, 40, 5000])
def test_snip_is_what_pybaselines_computes(points, half_window):
    scans = spectra(40, points)
    expected = theirs("snip", scans, max_half_window=half_window, decreasing=True)
    np.testing.assert_allclose(SNIP(half_window)(scans), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("half_window", [1, 5, 40])
def test_top_hat_is_what_pybaselines_computes(half_window):
    scans = spectra(5, 333)
    expected = theirs("tophat", scans, half_window=half_window)
    np.testing.assert_allclose(TopHat(half_window)(scans), expected, rtol=1e-5, atol=1e-3)


def test_least_squares_are_what_pybaselines_computes():
    scans = spectra(5, 333)
    expected = theirs("asls", scans, lam=1e4, p=0.02)
    np.testing.assert_allclose(AsLS(1e4, 0.02)(scans), expected, rtol=1e-4, atol=1e-2)


def test_a_wider_window_takes_less_of_a_wide_peak():
    scan = peaks_at(AXIS, width=20)([500], [100]) + BASELINE
    heights = [SNIP(half_window)(scan)[500] for half_window in (10, 30, 90)]
    assert heights[0] < 0.4 * heights[2]
    assert heights[0] < heights[1] < heights[2]
    assert heights[2] == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("lam", [1, 1e10])
@pytest.mark.parametrize("p", [1e-4, 0.5])
def test_least_squares_stay_finite_at_the_ends_of_their_ranges(lam, p):
    assert np.isfinite(AsLS(lam, p)(spectra(5, 500))).all()


@pytest.mark.parametrize("name", ["snip", "tophat", "asls"])
@pytest.mark.parametrize("points", [1, 2])
def test_of_one_or_two_points_nothing_is_left(name, points):
    assert not make_transforms([name])(spectra(3, points)).any()


@pytest.mark.parametrize(("window", "order"), [(3, 1), (9, 2), (21, 4), (51, 0)])
def test_it_is_what_scipy_computes(window, order):
    scans = spectra(points=100)
    out = SavitzkyGolay(window, order)(scans)
    expected = savgol_filter(scans.astype(float), window, order, mode="nearest")
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-2)
    inside = slice(window // 2, 100 - window // 2)
    by_polynomials = savgol_filter(scans.astype(float), window, order)
    np.testing.assert_allclose(out[:, inside], by_polynomials[:, inside], rtol=1e-4, atol=1e-2)


def test_a_polynomial_of_its_order_passes_unchanged_inside():
    x = np.linspace(-1, 1, 100)
    scan = (3 * x**2 - x + 2).astype(np.float32)
    np.testing.assert_allclose(SavitzkyGolay(11, 2)(scan)[5:-5], scan[5:-5], atol=1e-5)


def test_noise_gets_smaller_and_a_peak_stays():
    rng, points = np.random.default_rng(0), np.arange(1000)
    peak = np.exp(-0.5 * ((points - 500) / 10) ** 2)
    noisy = (peak + 0.1 * rng.standard_normal(1000)).astype(np.float32)
    out = SavitzkyGolay(11, 2)(noisy)
    assert np.std(out - peak) < 0.55 * np.std(noisy - peak)
    assert out[500] == pytest.approx(1, abs=0.15)


def test_a_window_longer_than_the_scan_is_no_trouble():
    assert np.isfinite(SavitzkyGolay(51, 2)(spectra(3, points=4))).all()

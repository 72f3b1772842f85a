from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import savgol_filter

from datasets.transforms import SavitzkyGolay
from tests.datasets.transforms.made_spectra import spectra


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

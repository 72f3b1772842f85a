from __future__ import annotations

import numpy as np

from datasets.transforms import SNV, TIC, MedianNorm, VectorNorm
from tests.datasets.transforms.made_spectra import spectra


def test_tic_makes_the_mean_one_whatever_the_scale():
    scans = spectra()
    out = TIC()(scans * np.float32(1000))
    np.testing.assert_allclose(out.mean(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(out, TIC()(scans), rtol=1e-5)


def test_tic_of_a_scan_around_zero_does_not_explode():
    scan = np.array([[1.0, -1.0, 2.0, -2.0]], dtype=np.float32)
    np.testing.assert_allclose(TIC()(scan), scan / 1.5, rtol=1e-6)


def test_a_scan_becomes_a_vector_of_length_one_whatever_the_scale():
    scans = spectra()
    out = VectorNorm()(scans * np.float32(1000))
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(out, VectorNorm()(scans), rtol=1e-5)


def test_the_median_becomes_one_and_does_not_follow_a_large_peak():
    scans = spectra(points=31)
    out = MedianNorm()(scans)
    np.testing.assert_allclose(np.median(out, axis=1), 1, rtol=1e-5)
    scans[:, scans[0].argmax()] *= 100
    higher = MedianNorm()(scans)
    np.testing.assert_allclose(np.median(higher, axis=1), 1, rtol=1e-5)


def test_a_scan_whose_median_is_zero_is_divided_by_a_thousandth_of_its_mean():
    scan = np.zeros((1, 100), dtype=np.float32)
    scan[0, 7] = 200
    np.testing.assert_allclose(MedianNorm()(scan)[0, 7], 200 / (2 * 1e-3), rtol=1e-5)


def test_snv_undoes_offset_and_scale_of_a_scan():
    scans = spectra()
    out = SNV()(scans)
    np.testing.assert_allclose(out.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(out.std(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(SNV()(scans * 8 + 1024), out, atol=1e-4)


def test_snv_of_a_constant_scan_is_zero():
    assert not SNV()(np.full((1, 2047), 0.1, dtype=np.float32)).any()

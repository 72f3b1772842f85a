from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import UsageError
from datasets.transforms import (
    SNV,
    TIC,
    Log1p,
    MedianNorm,
    Sqrt,
    Standardize,
    VectorNorm,
    make_transforms,
)
from tests.datasets.transforms.made_spectra import spectra


def test_tic_makes_the_mean_one_whatever_the_scale():
    scans = spectra()
    out = TIC()(scans * np.float32(1000))
    np.testing.assert_allclose(out.mean(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(out, TIC()(scans), rtol=1e-5)


def test_tic_of_a_scan_around_zero_does_not_explode():
    scan = np.array([[1.0, -1.0, 2.0, -2.0]], dtype=np.float32)
    np.testing.assert_allclose(TIC()(scan), scan / 1.5, rtol=1e-6)


def test_a_scan_becomes_a_vector_of_length_one():
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


def test_a_scan_of_median_0_is_divided_by_part_of_its_mean():
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


def test_root_and_logarithm_take_negative_intensities_as_zero():
    scan = np.array([[-4.0, 0.0, 9.0]], dtype=np.float32)
    np.testing.assert_allclose(Sqrt()(scan), [[0, 0, 3]])
    np.testing.assert_allclose(Log1p()(scan), [[0, 0, np.log(10)]], rtol=1e-6)


def test_log_is_another_name_for_log1p_and_saved_as_that():
    assert make_transforms(["log"]).state_dict()["names"] == ["log1p"]
    make_transforms(["log"]).load_state_dict(make_transforms(["log1p"]).state_dict())


def test_the_root_evens_out_the_variance_of_counts():
    counts = np.random.default_rng(0).poisson([[20.0], [2000.0]], (2, 20000)).astype(np.float32)
    np.testing.assert_allclose(Sqrt()(counts).std(axis=1), 0.5, rtol=0.03)


@pytest.mark.parametrize("sizes", [[200], [1, 199], [50, 0, 50, 100], [1] * 200])
def test_standardize_learns_the_same_from_any_chunks(sizes):
    scans = spectra() + np.float32(1e4)
    chunks = np.split(scans, np.cumsum(sizes)[:-1])
    transform = Standardize().fit(chunks)
    assert transform.mean is not None
    assert transform.std is not None
    np.testing.assert_allclose(transform.mean, scans.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(transform.std, scans.std(axis=0, dtype=np.float64), rtol=1e-5)
    out = transform(scans)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(out.std(axis=0), 1, rtol=1e-4)


def test_a_point_that_was_constant_in_training_does_not_blow_up():
    scans = spectra()
    scans[:, 3] = 0
    transform = Standardize(min_std=0.1).fit([scans])
    assert transform.std is not None
    typical = np.sqrt(np.mean(scans.var(axis=0)))
    np.testing.assert_allclose(transform.std[3], 0.1 * typical, rtol=1e-4)
    new = np.full((1, 30), typical, dtype=np.float32)
    assert abs(transform(new)[0, 3]) < 10.001


def test_one_training_scan_standardises_to_zero():
    scans = spectra(1)
    assert not Standardize().fit([scans])(scans).any()


def test_standardize_says_what_is_wrong():
    with pytest.raises(UsageError, match="no training scan"):
        Standardize().fit([])
    with pytest.raises(RuntimeError, match="before fit"):
        Standardize()(spectra())
    with pytest.raises(UsageError, match="spectra of 30 points; these have 31"):
        Standardize().fit([spectra()])(spectra(points=31))
    with pytest.raises(UsageError, match=r"standardize\.min_std"):
        Standardize(min_std=-1)

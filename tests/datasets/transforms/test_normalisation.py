from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import UsageError
from datasets.transforms import (
    CLR,
    SNV,
    TIC,
    Log,
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
    np.testing.assert_allclose(Log()(scan), [[0, 0, np.log(10)]], rtol=1e-6)


def test_log_is_another_name_for_log1p_and_saved_as_that():
    assert make_transforms(["log"]).state_dict()["names"] == ["log1p"]
    make_transforms(["log"]).load_state_dict(make_transforms(["log1p"]).state_dict())


def test_a_state_from_before_the_logarithm_could_learn_is_loaded():
    transforms = make_transforms(["log"])
    transforms.load_state_dict({"names": ["log1p"], "states": [{}], "axis": None})
    scans = spectra()
    np.testing.assert_allclose(transforms(scans), np.log1p(scans), rtol=1e-6)


def peaks_and_zeros():
    """Intensities over many orders of magnitude, a third of them 0 and some below."""
    rng = np.random.default_rng(3)
    scans = rng.lognormal(0, 3, (50, 400)).astype(np.float32)
    scans[rng.random(scans.shape) < 0.3] = 0
    scans[rng.random(scans.shape) < 0.05] *= -1
    return scans


@pytest.mark.parametrize("quantile", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("sizes", [[50], [7, 0, 43], [1] * 50])
def test_the_offset_is_a_quantile_of_the_positive_training_intensities(quantile, sizes):
    scans = peaks_and_zeros()
    offset = np.quantile(scans[scans > 0].astype(np.float64), quantile)
    transform = Log(quantile=quantile).fit(np.split(scans, np.cumsum(sizes)[:-1]))
    assert transform.offset == pytest.approx(offset, rel=1e-3)
    expected = np.log(np.maximum(scans, 0).astype(np.float64) + offset)
    np.testing.assert_allclose(transform(scans), expected, atol=2e-3)


def test_the_centred_log_ratio_is_the_logarithm_without_the_scans_mean():
    scans = peaks_and_zeros()
    transform = CLR().fit([scans])
    offset = np.quantile(scans[scans > 0].astype(np.float64), 0.05)
    logs = np.log(np.maximum(scans, 0).astype(np.float64) + offset)
    expected = logs - logs.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(transform(scans), expected, atol=2e-3)
    np.testing.assert_allclose(transform(scans).mean(axis=1), 0, atol=1e-5)


def test_ratios_are_kept_where_intensities_are_well_above_the_offset():
    scans = spectra() + np.float32(1000)
    transform = CLR(quantile=0).fit([scans * np.float32(1e-4)])
    np.testing.assert_allclose(transform(scans * 100), transform(scans), atol=1e-2)


def test_logarithms_say_what_is_wrong():
    for transform in (Log(quantile=0.05), CLR()):
        with pytest.raises(RuntimeError, match=f"{transform.name} is called before fit"):
            transform(spectra())
        for chunks in ([], [np.zeros((3, 30), np.float32)], [-spectra()]):
            with pytest.raises(UsageError, match=f"{transform.name}: no intensity of the training"):
                transform.fit(chunks)
    learned = Log(quantile=0.05).fit([spectra()]).state_dict()
    with pytest.raises(UsageError, match=r"log\.quantile: a number was expected, as in the saved"):
        Log().load_state_dict(learned)


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


def test_the_floor_may_be_relative_to_the_median_deviation():
    scans = spectra(points=31)
    scans[:, :5] *= np.float32(1e-3)  # nearly empty
    scans[:, 5:8] = 4  # constant: no part of the median
    scans[:, 8] *= np.float32(1e4)  # a few large peaks
    deviations = scans.std(axis=0, dtype=np.float64)
    median = np.median(deviations[deviations > 0])
    std, of_rms = (
        Standardize(min_std=0.1, relative_to=of).fit([scans]).std  # type: ignore[arg-type]
        for of in ("median", "rms")
    )
    assert std is not None
    assert of_rms is not None
    np.testing.assert_allclose(std, np.maximum(deviations, 0.1 * median), rtol=1e-4)
    assert of_rms[0] > 10 * median


def test_values_beyond_so_many_deviations_are_clipped():
    scans = spectra()
    transform, unlimited = Standardize(clip=8).fit([scans]), Standardize().fit([scans])
    new = scans.copy()
    new[0, :2] = 1e6, -1e6
    assert transform(new)[0, :2].tolist() == [8, -8]
    np.testing.assert_array_equal(transform(new), np.clip(unlimited(new), -8, 8))
    assert transform(new).dtype == np.float32
    assert unlimited(new)[0, 0] > 100


def test_no_varying_point_leaves_no_median_and_standardises_to_zero():
    scans = np.ones((4, 30), np.float32)
    assert not Standardize(relative_to="median").fit([scans])(scans).any()


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

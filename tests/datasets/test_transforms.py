from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from datasets.errors import UsageError
from datasets.transforms import (
    SNV,
    TIC,
    TRANSFORMS,
    Compose,
    Log1p,
    Sqrt,
    Standardize,
    make_transforms,
)

INTENSITIES = st.floats(-1e9, 1e9, width=32)


def spectra(scans: int = 200, points: int = 30, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, 500.0, (scans, points)).astype(np.float32)


def ready(name: str, points: int):
    transform = TRANSFORMS[name]()
    if hasattr(transform, "fit"):
        transform.fit([spectra(points=points)])
    return transform


@pytest.mark.parametrize("name", TRANSFORMS)
@settings(max_examples=40, deadline=None)
@given(scans=arrays(np.float32, array_shapes(min_dims=1, max_dims=3), elements=INTENSITIES))
def test_shape_type_and_finiteness_are_kept(name, scans):
    before = scans.copy()
    out = ready(name, scans.shape[-1])(scans)
    assert out.shape == scans.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(scans, before)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("value", [0.0, 1e-45, 7.0, -3.0])
def test_a_constant_scan_stays_finite(name, value):
    assert np.isfinite(ready(name, 30)(np.full((2, 30), value, dtype=np.float32))).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_scan_comes_out_the_same_alone_and_among_others(name):
    scans, transform = spectra(points=2048), ready(name, 2048)
    together = transform(scans)
    alone = np.stack([transform(scan) for scan in scans[:20]])
    np.testing.assert_array_equal(together[:20], alone)
    np.testing.assert_array_equal(together[13:20], transform(scans[13:20]))


def test_tic_makes_the_mean_one_whatever_the_scale():
    scans = spectra()
    out = TIC()(scans * np.float32(1000))
    np.testing.assert_allclose(out.mean(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(out, TIC()(scans), rtol=1e-5)


def test_tic_of_a_scan_around_zero_does_not_explode():
    scan = np.array([[1.0, -1.0, 2.0, -2.0]], dtype=np.float32)
    np.testing.assert_allclose(TIC()(scan), scan / 1.5, rtol=1e-6)


def test_root_and_logarithm_take_negative_intensities_as_zero():
    scan = np.array([[-4.0, 0.0, 9.0]], dtype=np.float32)
    np.testing.assert_allclose(Sqrt()(scan), [[0, 0, 3]])
    np.testing.assert_allclose(Log1p()(scan), [[0, 0, np.log(10)]], rtol=1e-6)


def test_snv_undoes_offset_and_scale_of_a_scan():
    scans = spectra()
    out = SNV()(scans)
    np.testing.assert_allclose(out.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(out.std(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(SNV()(scans * 8 + 1024), out, atol=1e-4)


def test_snv_of_a_constant_scan_is_zero():
    assert not SNV()(np.full((1, 2047), 0.1, dtype=np.float32)).any()


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


def test_each_stage_is_fitted_on_the_output_of_those_before_it():
    scans = spectra()
    rows = np.arange(0, 200, 2)
    both = make_transforms(["standardize", "tic", "sqrt", "standardize"]).fit(scans, rows)
    first = Standardize().fit([scans[rows]])
    between = Sqrt()(TIC()(first(scans)))
    last = Standardize().fit([between[rows]])
    np.testing.assert_allclose(both(scans), last(between), rtol=1e-5, atol=1e-6)


def test_only_the_given_rows_are_learnt_from():
    scans = spectra()
    fitted = make_transforms(["standardize"]).fit(scans, np.arange(100))(scans)
    changed = scans.copy()
    changed[100:] *= 5
    again = make_transforms(["standardize"]).fit(changed, np.arange(100)[::-1])(scans)
    np.testing.assert_array_equal(fitted, again)
    assert not np.array_equal(fitted, make_transforms(["standardize"]).fit(scans)(scans))


def test_a_saved_state_gives_back_the_fit_bit_for_bit():
    scans = spectra()
    fitted = make_transforms(["tic", "sqrt", "standardize"]).fit(scans)
    file = io.BytesIO()
    torch.save(fitted.state_dict(), file)
    file.seek(0)
    loaded = make_transforms(["tic", "sqrt", "standardize"])
    loaded.load_state_dict(torch.load(file, weights_only=True))
    np.testing.assert_array_equal(loaded(scans), fitted(scans))


def test_a_saved_state_does_not_follow_a_later_fit():
    transforms = make_transforms(["standardize"]).fit(spectra())
    state = transforms.state_dict()
    mean = state["states"][0]["mean"].clone()
    transforms.transforms[0].mean += 1  # type: ignore[attr-defined]
    assert torch.equal(state["states"][0]["mean"], mean)


def test_an_unfitted_state_can_be_saved_too():
    empty = make_transforms(["standardize"])
    fitted = make_transforms(["standardize"]).fit(spectra())
    fitted.load_state_dict(empty.state_dict())
    with pytest.raises(RuntimeError, match="before fit"):
        fitted(spectra())


def test_a_state_of_other_transforms_is_refused():
    state = make_transforms(["tic", "sqrt"]).state_dict()
    with pytest.raises(
        UsageError, match=r"transforms are \[tic, sqrt\]; \[tic, log1p\] are asked for"
    ):
        make_transforms(["tic", "log1p"]).load_state_dict(state)


def test_no_transform_changes_nothing():
    scans = spectra()
    np.testing.assert_array_equal(make_transforms([]).fit(scans)(scans), scans)


def test_a_class_of_the_users_own_takes_part():
    class Halve:
        def __call__(self, scans: np.ndarray) -> np.ndarray:
            return scans / 2

    transforms = make_transforms(["tic", Halve])
    np.testing.assert_allclose(transforms(spectra()).mean(axis=1), 0.5, rtol=1e-5)
    assert transforms.state_dict()["names"] == ["tic", "Halve"]


def test_unknown_names_and_parameters_are_named_with_the_nearest_choice():
    with pytest.raises(UsageError, match=r"unknown transform 'sqr'; did you mean 'sqrt'\?"):
        make_transforms(["sqr"])
    with pytest.raises(UsageError, match="transform 'standardize' has no parameter 'minstd'; did"):
        make_transforms([{"name": "standardize", "params": {"minstd": 1}}])
    with pytest.raises(UsageError, match="transform 'sqrt' has no parameter 'p'"):
        make_transforms([{"name": "sqrt", "params": {"p": 1}}])


def test_a_real_cohort_passes_through(real_data):
    scans = np.load(real_data / "hcc_serum_glycome_maldi" / "spectra.npy", mmap_mode="r")
    out = make_transforms(["tic", "sqrt", "standardize"]).fit(scans)(scans[:50])
    assert np.isfinite(out).all()
    assert isinstance(make_transforms([]), Compose)

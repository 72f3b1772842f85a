from __future__ import annotations

import numpy as np
import pytest

from datasets.augmentations import (
    AUGMENTATIONS,
    AxisShift,
    Intensity,
    Noise,
    ScanDropout,
    make_augmentations,
    shift_scans,
)
from datasets.errors import UsageError


def scans(count: int = 4, points: int = 50) -> np.ndarray:
    return np.random.default_rng(1).random((count, points), dtype=np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_depends_on_its_generator_alone_and_spares_its_input(name):
    (augment,) = make_augmentations([name])
    original = scans(8)
    before = original.copy()
    one, same, other = (
        augment(original, rng(0)),
        augment(original, rng(0)),
        augment(scans(8), rng(5)),
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.dtype == np.float32
    assert one.flags.c_contiguous
    np.testing.assert_array_equal(original, before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2)])
def test_small_samples_stay_finite_and_keep_their_points(name, shape):
    (augment,) = make_augmentations([name])
    out = augment(scans(*shape), rng())
    assert 1 <= len(out) <= shape[0]
    assert out.shape[1] == shape[1]
    assert np.isfinite(out).all()


def test_noise_has_the_asked_size():
    added = Noise(0.3)(np.zeros((10, 1000), dtype=np.float32), rng())
    assert added.std() == pytest.approx(0.3, rel=0.03)
    assert abs(added.mean()) < 0.01


def test_intensity_scales_each_scan_by_one_factor_of_its_own():
    base = scans(2000, 5) + np.float32(0.5)
    ratio = Intensity(0.2)(base, rng()) / base
    np.testing.assert_allclose(ratio, ratio[:, :1].repeat(5, axis=1), rtol=1e-5)
    logs = np.log(ratio[:, 0])
    assert logs.std() == pytest.approx(0.2, rel=0.1)
    assert abs(np.median(logs)) < 0.02


@pytest.mark.parametrize("shift", [-3.0, -1.5, -0.25, 0.0, 0.25, 1.0, 2.75])
def test_a_shift_interpolates_linearly_and_repeats_the_ends(shift):
    scan = scans(1)
    expected = np.interp(np.arange(50) - shift, np.arange(50), scan[0])
    np.testing.assert_allclose(shift_scans(scan, np.array([shift]))[0], expected, atol=1e-6)


def test_a_shift_longer_than_the_axis_leaves_the_end_point():
    scan = scans(2)
    out = shift_scans(scan, np.array([1e12, -1e12]))
    np.testing.assert_array_equal(out[0], np.full(50, scan[0, 0]))
    np.testing.assert_array_equal(out[1], np.full(50, scan[1, -1]))


def test_axis_shift_moves_each_scan_by_its_own_amount_within_the_limit():
    line = np.arange(100, dtype=np.float32)[None].repeat(500, axis=0)
    moved = AxisShift(3.0)(line, rng())[:, 50] - 50
    assert np.abs(moved).max() <= 3.0
    assert moved.min() < -2.5
    assert moved.max() > 2.5
    assert len(np.unique(moved)) > 400


def test_scan_dropout_drops_the_asked_part_and_keeps_the_order():
    kept = ScanDropout(0.25)(np.arange(4000, dtype=np.float32)[:, None], rng())[:, 0]
    assert len(kept) == pytest.approx(3000, rel=0.05)
    assert (np.diff(kept) > 0).all()


def test_scan_dropout_keeps_one_of_the_scans_whichever():
    numbered = np.arange(3, dtype=np.float32)[:, None]
    kept = {ScanDropout(1.0)(numbered, rng(seed)).item() for seed in range(50)}
    assert kept == {0.0, 1.0, 2.0}


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("noise", {"std": -1}, r"noise\.std: a number at least 0 was expected, not -1"),
        ("intensity", {"std": "x"}, r"intensity\.std: a number at least 0 was expected, not 'x'"),
        ("axis_shift", {"max_points": None}, r"axis_shift\.max_points: a number at least 0"),
        ("scan_dropout", {"p": 1.5}, r"scan_dropout\.p: a number between 0 and 1"),
        ("noise", {"sd": 1}, r"augmentation 'noise' has no parameter 'sd'; did you mean 'std'\?"),
        ("noisy", {}, r"unknown augmentation 'noisy'; did you mean 'noise'\?"),
    ],
)
def test_a_wrong_name_or_parameter_is_named(name, params, said):
    with pytest.raises(UsageError, match=said):
        make_augmentations([{"name": name, "params": params}])

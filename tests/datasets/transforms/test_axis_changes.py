from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import UsageError
from datasets.transforms import AxisMap, Bin, Crop, Resample
from tests.datasets.transforms.made_spectra import make_axis, peaks_at, spectra

# Even in its square root, as that of a time-of-flight instrument is.
FLIGHT = np.linspace(2000**0.5, 20000**0.5, 2048) ** 2


def resampled(resample: Resample, axis: np.ndarray, scans: np.ndarray):
    return resample.set_axis(axis), resample(scans)


def area(axis: np.ndarray, scans: np.ndarray) -> np.ndarray:
    return np.trapezoid(scans.astype(float), axis.astype(float), axis=-1)


@pytest.mark.parametrize(
    ("bounds", "first", "last"),
    [
        ({"low": 1200}, 1200, 2000),
        ({"high": 1200}, 1000, 1200),
        ({"low": 1191, "high": 1809.5}, 1200, 1800),
        ({"low": -5, "high": 1e9}, 1000, 2000),
    ],
)
def test_crop_keeps_what_lies_between_with_both_ends(bounds, first, last):
    crop, scans, axis = Crop(**bounds), spectra(points=101), make_axis(101)
    left = crop.set_axis(axis)
    assert (left[0], left[-1]) == (first, last)
    assert left.dtype == axis.dtype
    inside = (axis >= first) & (axis <= last)
    np.testing.assert_array_equal(crop(scans), scans[:, inside])
    np.testing.assert_array_equal(left, axis[inside])


def test_crop_between_two_points_is_refused():
    with pytest.raises(UsageError, match="1000 to 2000, lies between 1001 and 1009"):
        Crop(1001, 1009).set_axis(make_axis(101))


def test_the_same_points_again_change_nothing():
    axis, scans = make_axis(101), spectra(points=101)
    new, out = resampled(Resample(points=101), axis, scans)
    np.testing.assert_allclose(new, axis, rtol=1e-6)
    np.testing.assert_allclose(out, scans, rtol=1e-4)


def test_points_that_lie_closer_are_read_off_straight_lines():
    axis, scans = make_axis(11), spectra(points=11)
    new, out = resampled(Resample(step=30), axis, scans)
    assert new.tolist() == list(range(1000, 2001, 30))
    expected = np.array([np.interp(new, axis, scan) for scan in scans])
    np.testing.assert_allclose(out, expected, rtol=1e-4)


@settings(max_examples=50)
@given(points=st.integers(2, 300), old=st.integers(2, 200), bend=st.floats(0.3, 3))
def test_resampling_keeps_constants_and_the_range(points, old, bend):
    axis = 5 + np.linspace(0, 1, old) ** bend
    _, flat = resampled(Resample(points=points), axis, np.full((1, old), 7, np.float32))
    np.testing.assert_allclose(flat, 7, rtol=1e-6)
    scans = spectra(3, old)
    _, out = resampled(Resample(points=points), axis, scans)
    assert out.shape == (3, points)
    assert (out >= scans.min(axis=1, keepdims=True) * (1 - 1e-6)).all()
    assert (out <= scans.max(axis=1, keepdims=True) * (1 + 1e-6)).all()


@pytest.mark.parametrize("points", [64, 300, 1000])
def test_peaks_between_coarser_points_keep_their_areas(points):
    axis = np.linspace(0, 1000, 4001)
    scans = np.stack([peaks_at(axis, width=1.0)([place]) for place in (300.0, 301.7, 555.5)])
    new, out = resampled(Resample(points=points), axis, scans)
    np.testing.assert_allclose(area(new, out), area(axis, scans), rtol=2e-3)


def test_an_uneven_axis_is_interpolated_or_averaged():
    scans = np.stack(
        [peaks_at(FLIGHT, width=10 * place / 2000)([place]) for place in (2500, 15000)]
    )
    new, out = resampled(Resample(points=2048), FLIGHT, scans)
    assert np.ptp(np.diff(new)) < 1e-6
    np.testing.assert_allclose(area(new, out), area(FLIGHT, scans), rtol=0.01)
    np.testing.assert_allclose(new[out.argmax(axis=1)], [2500, 15000], atol=9)
    np.testing.assert_allclose(out.max(axis=1), 1, atol=0.1)


def test_a_step_that_does_not_divide_the_axis_ends_early():
    new = Resample(step=300).set_axis(make_axis(101))
    assert new.tolist() == [1000, 1300, 1600, 1900]


@pytest.mark.parametrize(
    ("step", "axis", "said"),
    [
        (5000, make_axis(101), r"step: a number between 0\.001 and 1000, the length of the axis"),
        (1e-9, make_axis(101), r"step: a number between 0\.001 and 1000"),
        (
            0.3,
            np.array([1e7, 1e7 + 1000], np.float32),
            "steps of 0.3 are too small for float32 axes",
        ),
    ],
)
def test_a_step_that_does_not_suit_the_axis_is_refused(step, axis, said):
    with pytest.raises(UsageError, match=said):
        Resample(step=step).set_axis(axis)


def test_a_crop_keeps_both_ends():
    crop = Crop(low=2000, high=3000)
    assert crop.set_axis(np.array([1000.0, 2000.0, 2500.0, 4000.0])).tolist() == [2000.0, 2500.0]
    assert crop(np.array([[1, 2, 3, 4]], dtype=np.float32)).tolist() == [[2.0, 3.0]]


def test_a_peak_between_new_points_is_not_lost():
    resample = Resample(points=3)
    assert resample.set_axis(np.array([0.0, 1.0, 2.0, 3.0, 4.0])).tolist() == [0.0, 2.0, 4.0]
    assert resample(np.array([[0, 8, 0, 0, 0]], dtype=np.float32)).tolist() == [[4.0, 2.0, 0.0]]


def test_neighbouring_points_are_averaged_with_their_places():
    axis = np.array([0.0, 1, 2, 4, 8, 16, 20], np.float32)
    transform = Bin(width=3)
    assert transform.set_axis(axis).tolist() == [1, pytest.approx(28 / 3), 20]
    assert transform.set_axis(axis).dtype == np.float32
    scans = np.array([[3, 6, 0, 1, 2, 3, 7], [0, 0, 0, -1, -2, -3, 5]], np.float32)
    assert transform(scans).tolist() == [[3, 2, 7], [0, -2, 5]]


def test_the_last_mean_is_over_the_points_that_remain():
    transform = Bin(width=4)
    transform.set_axis(make_axis(10))
    assert transform.describe() == "bin: each point is the mean of 4, the last one of 2"
    scans = spectra(points=10)
    np.testing.assert_allclose(transform(scans)[:, 2], scans[:, 8:].mean(axis=1), rtol=1e-6)
    transform.set_axis(make_axis(12))
    assert transform.describe() == "bin: each point is the mean of 4"


def test_bins_of_one_point_change_nothing():
    scans, transform = spectra(), Bin(width=1)
    np.testing.assert_array_equal(transform.set_axis(make_axis(30)), make_axis(30))
    np.testing.assert_array_equal(transform(scans), scans)


def test_points_of_the_old_axis_stay_as_they_are():
    old = np.array([0.0, 1.0, 3.0, 7.0, 8.0, 9.0])
    scans = np.random.default_rng(0).random((2, 6), dtype=np.float32)
    for kept in (slice(0, 6), slice(1, 5), slice(1, 4)):
        np.testing.assert_allclose(AxisMap(old, old[kept])(scans), scans[:, kept], rtol=1e-6)

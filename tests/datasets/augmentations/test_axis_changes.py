from __future__ import annotations

import numpy as np
import pytest

from datasets.augmentations import AxisShift, AxisWarp, random_waves, shift_scans
from tests.datasets.augmentations.made_scans import rng, scans


@pytest.mark.parametrize("shift", [-3.0, -1.5, -0.25, 0.0, 0.25, 1.0, 2.75])
def test_a_shift_interpolates_linearly_and_repeats_the_ends(shift):
    scan = scans(1)
    expected = np.interp(np.arange(50) - shift, np.arange(50), scan[0])
    np.testing.assert_allclose(shift_scans(scan, np.array([[shift]]))[0], expected, atol=1e-6)


def test_a_shift_longer_than_the_axis_leaves_the_end_point():
    scan = scans(2)
    out = shift_scans(scan, np.array([[1e12], [-1e12]]))
    np.testing.assert_array_equal(out[0], np.full(50, scan[0, 0]))
    np.testing.assert_array_equal(out[1], np.full(50, scan[1, -1]))


def test_axis_shift_moves_each_scan_within_the_limit():
    line = np.arange(100, dtype=np.float32)[None].repeat(500, axis=0)
    moved = AxisShift(3.0)(line, rng())[:, 50] - 50
    assert np.abs(moved).max() <= 3.0
    assert moved.min() < -2.5
    assert moved.max() > 2.5
    assert len(np.unique(moved)) > 400


def test_a_warp_moves_points_unequally_within_the_limit():
    line = np.arange(500, dtype=np.float32)[None].repeat(300, axis=0)
    moved = (AxisWarp(3.0)(line, rng()) - line)[:, 5:-5]
    largest = np.abs(moved).max(axis=1)
    assert largest.max() <= 3.001
    assert largest.max() > 2.8
    assert largest.min() < 0.2
    assert (np.ptp(moved, axis=1) > 0.5 * largest).all()
    assert np.abs(np.diff(moved, axis=1)).max() < 0.15  # smooth


@pytest.mark.parametrize("max_points", [0.0, 2.0, 50.0, 1e9])
def test_points_keep_their_order_however_large_the_warp(max_points):
    line = np.arange(60, dtype=np.float32)[None].repeat(50, axis=0)
    warped = AxisWarp(max_points, waves=6)(line, rng())
    assert (np.diff(warped) >= 0).all()
    if max_points == 0:
        np.testing.assert_array_equal(warped, line)


@pytest.mark.parametrize("waves", [1, 4])
def test_curves_are_smooth_and_of_unit_size_on_average(waves):
    curves = random_waves(2000, 200, waves, rng())
    assert curves.shape == (2000, 200)
    assert np.square(curves).mean() == pytest.approx(1, rel=0.1)
    assert np.abs(np.diff(curves)).max() < 0.15 * waves
    np.testing.assert_allclose(curves.mean(axis=0), 0, atol=0.15)


def test_a_curve_does_not_depend_on_how_many_are_drawn_after_it():
    np.testing.assert_array_equal(
        random_waves(1, 333, 4, rng())[0], random_waves(5, 333, 4, rng())[0]
    )

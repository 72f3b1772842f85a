"""What makes scans comparable, and when they are nearer than strangers come by chance."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.audit.reference import LEAST_LIKENESS, Reference, find_details, scale


def smooth_scans(rng, count, components, noise):
    """Near-infrared as it comes: a few broad bands, hardly any noise."""
    x = np.linspace(0, 1, 200)
    centres, widths = rng.random(components), 0.05 + 0.2 * rng.random(components)
    bands = np.exp(-0.5 * ((x - centres[:, None]) / widths[:, None]) ** 2)
    scans = np.exp(0.3 * rng.standard_normal((count, components))) @ bands
    return (scans + noise * rng.standard_normal(scans.shape)).astype(np.float32)


def reference_of(scans):
    numbers = np.arange(len(scans))
    return Reference.of(scans, numbers, numbers, numbers)


@pytest.fixture
def peaks():
    """200 scans of 300 points: twelve peaks of random heights, and counting noise."""
    rng = np.random.default_rng(0)
    centres = np.linspace(15, 285, 12)[:, None]
    heights = np.exp(0.4 * rng.standard_normal((200, 12))) * 300
    expected = heights @ np.exp(-0.5 * ((np.arange(300) - centres) / 3) ** 2) + 30
    return rng.poisson(expected).astype(np.float32)


def test_gain_and_offset_change_nothing(peaks):
    np.testing.assert_allclose(scale(3 * peaks + 50), scale(peaks), atol=1e-6)


def test_a_constant_scan_stays_finite(peaks):
    reference = reference_of(peaks)
    flat = scale(np.full((2, 300), 7, dtype=np.float32))
    assert (flat == 0).all()
    assert np.isfinite(reference.details(flat)).all()
    assert np.isnan(reference.shifts(flat)).all()


def test_details_hold_nothing_of_what_all_scans_share(peaks):
    reference = reference_of(peaks)
    mean = scale(peaks).mean(axis=0, keepdims=True)
    details = reference.details(scale(peaks))
    for window in reference.windows:
        here = details[:, window.points]
        assert np.abs(here @ mean[0, window.points]).max() < 1e-4
        assert np.abs(here.sum(axis=1)).max() < 1e-4


def test_a_peak_that_is_large_in_two_scans_does_not_make_them_alike(peaks):
    peaks[:2, 100:110] *= 40
    scaled = scale(peaks)
    apart = scaled - scaled.mean(axis=0)
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    assert apart[0] @ apart[1] > 0.9
    details = find_details(scaled, reference_of(peaks).windows)
    assert details[0] @ details[1] < 0.6


@pytest.mark.parametrize("points", [-1.0, -0.3, 0.3, 1.0])
def test_a_shift_is_measured_with_its_sign(peaks, points):
    reference = reference_of(peaks)
    at = np.arange(300) - points
    moved = np.array([np.interp(at, np.arange(300), scan) for scan in peaks], dtype=np.float32)
    found = reference.shifts(scale(moved)) - reference.shifts(scale(peaks))
    assert np.nanmedian(found) == pytest.approx(points, rel=0.25)


def test_noisy_scans_are_near_at_a_likeness_that_strangers_never_have(peaks):
    near = reference_of(peaks).near
    assert LEAST_LIKENESS <= near < 0.95


def test_smooth_scans_of_few_components_have_to_come_nearer():
    rng = np.random.default_rng(1)
    for components in (3, 6):
        scans = smooth_scans(rng, 400, components, 1e-6)
        reference = reference_of(scans)
        details = reference.details(scale(scans)).astype(np.float64)
        likeness = details @ details.T
        np.fill_diagonal(likeness, -1)
        assert likeness.max() > 0.99  # strangers, all of them
        assert likeness.max() < reference.near < 1


def test_with_too_few_strangers_only_the_same_is_near(peaks):
    assert reference_of(peaks[:4]).near == 1

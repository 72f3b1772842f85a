"""What makes scans comparable, and when they are nearer than strangers come by chance."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.audit.scan_measures import (
    LEAST_LIKENESS,
    Reference,
    choose_scans,
    find_details,
    measure_scans,
    scale,
)


def test_all_scans_are_chosen_or_those_of_whole_samples(make_cohort):
    cohort = make_cohort()
    rows, owner = choose_scans(cohort, None)
    assert rows.tolist() == list(range(len(cohort.spectra)))
    for sample, own in enumerate(cohort.scan_rows):
        assert rows[owner == sample].tolist() == sorted(own)
    rows, owner = choose_scans(cohort, 50)
    assert 45 <= len(rows) <= 50
    assert (np.diff(rows) > 0).all()
    for sample in np.unique(owner):
        assert (owner == sample).sum() == len(cohort.scan_rows[sample])


def test_scans_of_left_out_samples_are_not_measured(make_cohort):
    def put(files):
        files.samples.loc[:9, "label"] = "unclear"

    cohort = make_cohort(put)
    assert len(measure_scans(cohort).rows) == sum(map(len, cohort.scan_rows))
    assert len(measure_scans(cohort).rows) < len(cohort.spectra)


def test_the_size_of_chunks_changes_nothing(make_cohort, monkeypatch):
    cohort = make_cohort()
    whole = measure_scans(cohort)

    monkeypatch.setattr("datasets.scans.CHUNK_BYTES", 20_000)
    pieces = measure_scans(cohort)
    for name in ("rows", "owner", "digest", "is_blank", "log_total"):
        assert (getattr(whole, name) == getattr(pieces, name)).all(), name
    np.testing.assert_allclose(whole.shifts, pieces.shifts, atol=1e-4)
    assert (whole.keys == pieces.keys).mean() > 0.99  # a bit on the brink may fall either way
    assert whole.copied_points == pieces.copied_points == 0


def test_blank_scans_and_copied_points_are_counted(make_cohort):
    def put(files):
        files.spectra[:, 20:30] = 0.0  # a stretch that is empty in every scan
        files.spectra[:, 101] = files.spectra[:, 100]
        files.spectra[4] = 0.0

    found = measure_scans(make_cohort(put))
    assert np.flatnonzero(found.is_blank).tolist() == [4]
    assert found.copied_points == 1


def test_an_empty_scan_has_no_total(make_cohort):
    def put(files):
        files.spectra[0] = 0

    found = measure_scans(make_cohort(put))
    assert np.isnan(found.log_total[0])
    assert np.isfinite(found.log_total[1:]).all()


def test_equal_scans_have_equal_digests_and_keys(make_cohort):
    def put(files):
        files.spectra[7] = files.spectra[90]
        files.spectra[8] = 2 * files.spectra[90] + 5

    found = measure_scans(make_cohort(put))
    assert found.digest[7] == found.digest[90] != found.digest[8]
    assert len(np.unique(found.digest)) == len(found.digest) - 1
    differing = np.bitwise_count(found.keys[8] ^ found.keys[90]).sum()
    assert differing <= 1
    assert np.bitwise_count(found.keys[8] ^ found.keys[9]).sum() > 10


def test_values_of_scans_are_averaged_over_those_of_a_sample(make_cohort):
    cohort = make_cohort()
    found = measure_scans(cohort)
    means = found.mean_of_samples(found.log_total, len(cohort.sample_ids))
    rows = cohort.scan_rows[5]
    assert means[5] == pytest.approx(found.log_total[rows].mean())
    nothing = np.full(len(found.rows), np.nan)
    assert np.isnan(found.mean_of_samples(nothing, 3)).all()


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
    assert np.isfinite(find_details(flat, reference.regions)).all()
    assert np.isnan(reference.shifts(flat)).all()


def test_details_hold_nothing_of_what_all_scans_share(peaks):
    reference = reference_of(peaks)
    mean = scale(peaks).mean(axis=0, keepdims=True)
    details = find_details(scale(peaks), reference.regions)
    for region in reference.regions:
        here = details[:, region.points]
        assert np.abs(here @ mean[0, region.points]).max() < 1e-4
        assert np.abs(here.sum(axis=1)).max() < 1e-4


def test_one_large_peak_does_not_make_two_scans_alike(peaks):
    peaks[:2, 100:110] *= 40
    scaled = scale(peaks)
    apart = scaled - scaled.mean(axis=0)
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    assert apart[0] @ apart[1] > 0.9
    details = find_details(scaled, reference_of(peaks).regions)
    assert details[0] @ details[1] < 0.6


@pytest.mark.parametrize("points", [-1.0, -0.3, 0.3, 1.0])
def test_a_shift_is_measured_with_its_sign(peaks, points):
    reference = reference_of(peaks)
    at = np.arange(300) - points
    moved = np.array([np.interp(at, np.arange(300), scan) for scan in peaks], dtype=np.float32)
    found = reference.shifts(scale(moved)) - reference.shifts(scale(peaks))
    assert np.nanmedian(found) == pytest.approx(points, rel=0.25)


def test_noisy_scans_are_near_above_any_unrelated_likeness(peaks):
    near = reference_of(peaks).near
    assert LEAST_LIKENESS <= near < 0.95


def test_smooth_scans_of_few_components_have_to_come_nearer():
    rng = np.random.default_rng(1)
    for components in (3, 6):
        scans = smooth_scans(rng, 400, components, 1e-6)
        reference = reference_of(scans)
        details = find_details(scale(scans), reference.regions).astype(np.float64)
        likeness = details @ details.T
        np.fill_diagonal(likeness, -1)
        assert likeness.max() > 0.99  # strangers, all of them
        assert likeness.max() < reference.near < 1


def test_with_too_few_strangers_only_the_same_is_near(peaks):
    assert reference_of(peaks[:4]).near == 1

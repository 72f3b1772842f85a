from __future__ import annotations

import numpy as np
import pytest

from datasets.audit import scan_measures
from datasets.audit.scan_measures import choose_scans, measure_scans
from datasets.scans import iterate_chunks


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

    def in_small_pieces(spectra, rows):
        return iterate_chunks(spectra, rows, chunk_bytes=20_000)

    monkeypatch.setattr(scan_measures, "iterate_chunks", in_small_pieces)
    pieces = measure_scans(cohort)
    for name in ("rows", "owner", "digest", "is_blank", "log_total"):
        assert (getattr(whole, name) == getattr(pieces, name)).all(), name
    np.testing.assert_allclose(whole.shifts, pieces.shifts, atol=1e-4)
    assert (whole.keys == pieces.keys).mean() > 0.99  # a bit on the brink may fall either way
    assert whole.copied_points == pieces.copied_points == 0


def test_blank_scans_and_copied_points_are_counted_and_empty_points_are_not(make_cohort):
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

"""Pairs that are found by keys, against all pairs."""

from __future__ import annotations

import numpy as np

from datasets.audit import near_duplicates as lookalikes
from datasets.audit.near_duplicates import find_lookalikes
from datasets.audit.reference import scale
from datasets.audit.scan_measures import measure_scans
from datasets.cohort import Cohort
from datasets.simulation import simulate_cohort


def copy_forty(factor, noise):
    def put(files):
        rng = np.random.default_rng(0)
        spread = noise * files.spectra[:40].std(axis=1, keepdims=True)
        copies = factor * files.spectra[:40] + spread * rng.standard_normal((40, 256))
        files.spectra[-40:] = copies

    return put


def look(cohort):
    scans = measure_scans(cohort)
    pairs, likeness = find_lookalikes(cohort.spectra, scans, cohort.groups[scans.owner])
    return scans, {(int(a), int(b)): one for (a, b), one in zip(pairs, likeness, strict=True)}


def test_copies_are_found_with_their_likeness(make_cohort):
    for noise in (0.0, 0.01):
        cohort = make_cohort(copy_forty(1.5, noise))
        scans, found = look(cohort)
        count = len(scans.rows)
        expected = {(number, count - 40 + number) for number in range(40)}
        assert found.keys() <= expected
        assert len(found) >= 38
        details = scans.reference.details(scale(np.asarray(cohort.spectra)))
        for (a, b), likeness in found.items():
            np.testing.assert_allclose(likeness, details[a] @ details[b], atol=1e-4)


def test_no_strangers_are_found_in_a_clean_cohort(make_cohort):
    assert look(make_cohort())[1] == {}


def test_patients_who_share_a_peak_of_rare_height_are_strangers(tmp_path):
    # By their scans as a whole two of these 900 patients are alike to 0.91.
    simulate_cohort(tmp_path / "cohort", 1008, n_samples=900, spec_len=256)
    assert look(Cohort.read(tmp_path / "cohort"))[1] == {}


def test_replicates_of_one_group_are_not_what_is_looked_for(make_cohort):
    def put(files):
        copy_forty(1.5, 0.0)(files)
        files.samples["group"] = "one"

    assert look(make_cohort(put))[1] == {}


def test_no_scan_is_compared_with_more_than_its_neighbours(make_cohort, monkeypatch):
    def put(files):
        files.spectra[:] = files.spectra[0] + np.random.default_rng(0).random(files.spectra.shape)

    cohort = make_cohort(put)
    compared = []
    compare = lookalikes._compare

    def count(spectra, scans, pairs):
        compared.append(len(pairs))
        return compare(spectra, scans, pairs)

    monkeypatch.setattr(lookalikes, "_compare", count)
    monkeypatch.setattr(lookalikes, "NEIGHBOURS", 2)
    scans, _ = look(cohort)
    assert compared[0] <= 2 * len(scans.rows) * scans.keys.shape[1]

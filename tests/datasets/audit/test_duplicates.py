"""Where duplicates stand decides how grave they are."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.audit import audit
from datasets.audit import scan_checks as near_duplicates
from datasets.audit.scan_checks import find_near_duplicates
from datasets.audit.scan_measures import find_details, measure_scans, scale
from datasets.cohort import Cohort
from datasets.simulation import simulate_cohort


@pytest.fixture
def look(make_cohort):
    """Audit with every tenth sample in the test set; duplicates found, by name."""

    def found(fault, with_split=True):
        cohort = make_cohort(fault)
        split = np.where(np.arange(len(cohort.sample_ids)) % 10 == 0, "test", "train")
        findings = audit(cohort, split if with_split else None)
        return {one.name: one for one in findings if "duplicates" in one.name}

    return found


def copy(source, target, change=lambda scan: scan):
    """Put a scan of one sample in place of a scan of another, by number of the sample."""

    def put(files):
        of = [np.flatnonzero(files.owner == sample)[0] for sample in (source, target)]
        files.spectra[of[1]] = change(files.spectra[of[0]])

    return put


def same_label(files, first, wanted):
    """The first sample from `first` on with the label of sample `wanted`, not in the test set."""
    alike = np.flatnonzero(files.is_case == files.is_case[wanted])
    return int(next(sample for sample in alike if sample >= first and sample % 10))


def test_on_two_sides_they_refuse(look):
    found = look(copy(10, 11))
    assert {name: one.level for name, one in found.items()} == {"duplicates:sides": "refuse"}
    assert found["duplicates:sides"].number == 2
    assert "sample S0011 and sample S0012" in found["duplicates:sides"].sentence


def test_on_one_side_with_different_labels_they_refuse(look):
    def put(files):
        other = next(s for s in range(12, 20) if files.is_case[s] != files.is_case[11])
        copy(11, other)(files)

    assert {name: one.level for name, one in look(put).items()} == {"duplicates:labels": "refuse"}


def test_on_one_side_with_one_label_they_are_warned_of(look):
    def put(files):
        copy(11, same_label(files, 12, 11))(files)

    assert {name: one.level for name, one in look(put).items()} == {"duplicates:groups": "warn"}


def test_without_a_split_groups_are_what_counts(look):
    def put(files):
        copy(10, same_label(files, 11, 10))(files)

    assert look(put, with_split=False).keys() == {"duplicates:groups"}


def test_within_a_group_they_are_noted(look):
    def put(files):
        several = next(s for s in range(200) if (files.owner == s).sum() > 1)
        first, second, *_ = np.flatnonzero(files.owner == several)
        files.spectra[second] = files.spectra[first]

    assert {name: one.level for name, one in look(put).items()} == {"duplicates:samples": "note"}


def test_another_gain_is_identical_and_added_noise_is_nearly_so(look):
    noise = np.random.default_rng(0).standard_normal(256)
    scaled = look(copy(10, 11, lambda scan: 2 * scan + 10))
    assert scaled["duplicates:sides"].level == "refuse"
    noisy = look(copy(10, 11, lambda scan: scan + 0.01 * scan.std() * noise))
    assert {name: one.level for name, one in noisy.items()} == {"near_duplicates:sides": "warn"}


def test_copies_of_copies_are_one_set(look):
    def put(files):
        for target in (11, 12, 13):
            copy(10, target)(files)

    assert look(put)["duplicates:sides"].number == 4


def test_blank_scans_are_no_duplicates_of_each_other(make_cohort):
    def put(files):
        files.spectra[:5] = 0

    found = {one.name: one for one in audit(make_cohort(put))}
    assert found["scans:blank"].number == 5
    assert not [name for name in found if "duplicates" in name]


def copy_forty(factor, noise):
    def put(files):
        rng = np.random.default_rng(0)
        spread = noise * files.spectra[:40].std(axis=1, keepdims=True)
        copies = factor * files.spectra[:40] + spread * rng.standard_normal((40, 256))
        files.spectra[-40:] = copies

    return put


def pairs_by_keys(cohort):
    scans = measure_scans(cohort)
    pairs, likeness = find_near_duplicates(cohort.spectra, scans, cohort.groups[scans.owner])
    return scans, {(int(a), int(b)): one for (a, b), one in zip(pairs, likeness, strict=True)}


def test_copies_are_found_with_their_likeness(make_cohort):
    for noise in (0.0, 0.01):
        cohort = make_cohort(copy_forty(1.5, noise))
        scans, found = pairs_by_keys(cohort)
        count = len(scans.rows)
        expected = {(number, count - 40 + number) for number in range(40)}
        assert found.keys() <= expected
        assert len(found) >= 38
        details = find_details(scale(np.asarray(cohort.spectra)), scans.reference.regions)
        for (a, b), likeness in found.items():
            np.testing.assert_allclose(likeness, details[a] @ details[b], atol=1e-4)


def test_no_strangers_are_found_in_a_clean_cohort(make_cohort):
    assert pairs_by_keys(make_cohort())[1] == {}


def test_patients_who_share_a_peak_of_rare_height_are_strangers(tmp_path):
    # By their scans as a whole two of these 900 patients are alike to 0.91.
    simulate_cohort(tmp_path / "cohort", 1008, n_samples=900, spec_len=256)
    assert pairs_by_keys(Cohort.read(tmp_path / "cohort"))[1] == {}


def test_replicates_of_one_group_are_not_what_is_looked_for(make_cohort):
    def put(files):
        copy_forty(1.5, 0.0)(files)
        files.samples["group"] = "one"

    assert pairs_by_keys(make_cohort(put))[1] == {}


def test_no_scan_is_compared_with_more_than_its_neighbours(make_cohort, monkeypatch):
    def put(files):
        files.spectra[:] = files.spectra[0] + np.random.default_rng(0).random(files.spectra.shape)

    cohort = make_cohort(put)
    compared = []
    compare = near_duplicates._compare

    def count(spectra, scans, pairs):
        compared.append(len(pairs))
        return compare(spectra, scans, pairs)

    monkeypatch.setattr(near_duplicates, "_compare", count)
    monkeypatch.setattr(near_duplicates, "NEIGHBOURS", 2)
    scans, _ = pairs_by_keys(cohort)
    assert compared[0] <= 2 * len(scans.rows) * scans.keys.shape[1]

from __future__ import annotations

import numpy as np

from datasets.audit import audit


def test_shares_of_few_batches_are_named(find):
    def put(files):
        early = np.random.default_rng(0).random(200) < np.where(files.is_case, 0.9, 0.1)
        files.samples["plate"] = np.where(early, "one", "two")

    sentence = find(put)["batch:plate"].sentence
    assert "case is" in sentence
    assert "% of one," in sentence


def test_a_batch_that_is_the_group_is_judged_by_its_samples(find):
    def put(files):
        rng = np.random.default_rng(0)
        plate = np.where(files.is_case, rng.integers(0, 3, 200), rng.integers(3, 6, 200))
        mixed = rng.random(200) < 0.3
        files.samples["plate"] = np.where(mixed, rng.integers(0, 6, 200), plate)

    found = find(put, group="plate")
    assert found["batch:plate"].level == "warn"


def test_many_small_batches_in_a_row_are_asked_as_an_order(find):
    def put(files):
        late = np.argsort(np.random.default_rng(0).random(200) + 2 * files.is_case)
        number = np.empty(200, dtype=int)
        number[late] = np.arange(200)
        files.samples["injection_no"] = number

    assert find(put)["batch:injection_no"].level == "warn"


def test_a_marker_with_a_batch_like_name_is_read_by_whole_words(find):
    def put(files):
        files.samples["platelets"] = 100 + 50 * files.is_case + np.arange(200) % 30

    found = find(put, numeric=["platelets"])
    assert not [name for name in found if name.startswith("batch:")]


def test_more_signal_in_cases_is_named_with_the_transform(find):
    def put(files):
        files.spectra[files.is_case_scan] *= 3

    found = find(put)["intensity"]
    assert found.level == "warn"
    assert "tic" in found.sentence


def test_twice_as_many_scans_of_cases_are_named(find):
    def put(files):
        single = ~files.is_case_scan & (files.scans["scan"] > 0).to_numpy()
        files.scans, files.spectra = files.scans[~single], files.spectra[~single]

    found = find(put)["scan_count"]
    assert "1.0 in control" in found.sentence


def test_an_order_with_plates_as_groups_is_asked_within_plates(find):
    def put(files):
        # Plates follow each other, and within a plate the order means nothing.
        rng = np.random.default_rng(0)
        plate = rng.integers(0, 4, 200)
        chance = np.array([0.2, 0.3, 0.5, 0.6])[plate]
        files.samples["label"] = np.where(rng.random(200) < chance, "case", "control")
        files.samples["bench"] = [f"b{number}" for number in plate]
        files.keep(np.argsort(plate, kind="stable"))

    assert "order" not in find(put, group="bench")
    assert "order" in find(put)


def test_few_samples_of_a_class_on_a_side_are_noted(make_cohort):
    cohort = make_cohort()
    split = np.full(200, "train")
    split[np.flatnonzero(cohort.targets == 1)[:4]] = "val"
    split[np.flatnonzero(cohort.targets == 0)[:30]] = "val"
    split[np.flatnonzero(cohort.targets == 1)[4:24]] = "test"
    split[np.flatnonzero(cohort.targets == 0)[30:60]] = "test"
    found = {one.name: one for one in audit(cohort, split)}
    assert (found["counts:val"].level, found["counts:val"].number) == ("note", 4)
    assert "case 4" in found["counts:val"].sentence
    assert "counts:test" not in found
    assert found["shares:val:case"].number == 4 / 34
    assert "shares:test:case" not in found


def test_a_site_without_a_class_is_noted_beyond_chance(find):
    def put(files):
        site = np.arange(200) % 4
        site[files.is_case & (site == 3)] = 0
        files.samples["site"] = [f"site {number}" for number in site]
        small = np.full(200, "large")
        small[:2] = "small"
        files.samples["centre"] = small

    found = find(put)
    assert found["table:site"].level == "note"
    assert "site 3 has no case" in found["table:site"].sentence
    assert "table:centre" not in found


def test_values_to_regress_have_no_classes_to_count(find):
    found = find(label="BMI", task="regression")
    assert not [name for name in found if name.startswith(("counts:", "shares:"))]

from __future__ import annotations

import numpy as np
import pytest

from datasets.audit import audit


def test_a_group_on_two_sides_refuses_and_is_counted(make_cohort):
    def put(files):
        files.samples["group"] = [f"g{number // 4:02d}" for number in range(200)]

    cohort = make_cohort(put)
    split = np.repeat(["train", "val", "test"], [150, 26, 24])  # g37 is 148 to 151
    found = {one.name: one for one in audit(cohort, split)}
    assert found["groups:sides"].level == "refuse"
    assert found["groups:sides"].number == 1
    assert "g37" in found["groups:sides"].sentence
    assert "groups:sides" not in {one.name for one in audit(cohort)}


def test_subjects_in_several_groups_are_warned_of_on_one_side_and_refused_on_two(make_cohort):
    def put(files):
        files.samples["animal"] = [f"m{number // 2}" for number in range(200)]

    cohort = make_cohort(put)
    split = np.array(["train", "val", "test", "train"])[np.arange(200) // 2 % 4]
    assert {one.name: one.level for one in audit(cohort, split)}["groups:animal"] == "warn"
    split[5] = "train"
    found = {one.name: one for one in audit(cohort, split)}["groups:animal"]
    assert found.level == "refuse"
    assert "1 of them on two sides of the split, m2 for one" in found.sentence


def test_subjects_that_are_the_groups_are_left_in_peace(find):
    def put(files):
        files.samples["patient_id"] = [f"p{number // 2}" for number in range(200)]

    assert not [name for name in find(put, group="patient_id") if name.startswith("groups:")]


def rename(files, names):
    new = dict(zip(files.samples["sample_id"], names, strict=True))
    files.samples["sample_id"] = names
    files.samples["group"] = names
    files.scans["sample_id"] = files.scans["sample_id"].map(new)


@pytest.mark.parametrize("pattern", ["P{0:03d}_{1}", "case-{0}.rep{1}"])
def test_names_that_read_like_replicates_in_several_groups_are_warned_of(find, pattern):
    def put(files):
        files.keep(np.argsort(files.is_case, kind="stable"))
        rename(files, [pattern.format(number // 2, number % 2 + 1) for number in range(200)])

    assert find(put)["groups:sample_id"].level == "warn"


def test_numbered_patients_of_places_are_not_taken_for_replicates(find):
    def put(files):
        rename(files, [f"site{number % 25}_{number // 25}" for number in range(200)])

    assert "groups:sample_id" not in find(put)


def test_few_groups_are_noted(find):
    def put(files):
        files.samples["bench"] = [f"b{number % 5}" for number in range(200)]

    found = find(put, group="bench")["groups:few"]
    assert (found.level, found.number) == ("note", 5)

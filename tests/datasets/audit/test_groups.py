from __future__ import annotations

import numpy as np
import pytest

from datasets.audit import audit
from datasets.cohort import find_spellings
from tests.experiments.report.said_in_chinese import english_left


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


def test_subjects_in_several_groups_and_splits_are_refused(make_cohort):
    def put(files):
        files.samples["animal"] = [f"m{number // 2}" for number in range(200)]

    cohort = make_cohort(put)
    split = np.array(["train", "val", "test", "train"])[np.arange(200) // 2 % 4]
    assert {one.name: one.level for one in audit(cohort, split)}["groups:animal"] == "warn"
    split[5] = "train"
    found = {one.name: one for one in audit(cohort, split)}["groups:animal"]
    assert found.level == "refuse"
    assert "1 of them in several splits, such as m2" in found.sentence


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
def test_replicate_names_in_several_groups_are_warned_of(find, pattern):
    def put(files):
        files.keep(np.argsort(files.is_case, kind="stable"))
        rename(files, [pattern.format(number // 2, number % 2 + 1) for number in range(200)])

    assert find(put)["groups:sample_id"].level == "warn"


def test_numbered_patients_of_sites_are_no_replicates(find):
    def put(files):
        rename(files, [f"site{number % 25}_{number // 25}" for number in range(200)])

    assert "groups:sample_id" not in find(put)


def test_few_groups_are_noted(find):
    def put(files):
        files.samples["bench"] = [f"b{number % 5}" for number in range(200)]

    found = find(put, group="bench")["groups:few"]
    assert (found.level, found.number) == ("note", 5)


@pytest.mark.parametrize(
    "names",
    [
        ["P001", "p001"],
        ["P001", "P1"],
        ["HCC", "HC C"],
        ["1", "1.0"],
        ["101", "101.0"],
        ["007", "7"],
        ["\uff30\uff11", "P1"],  # full width
        ["M\u00fcller", "Mu\u0308ller"],  # one code point, and two
        ["a\u200bb", "ab"],  # a blank without width
        ["Stra\u00dfe 1", "STRASSE1"],
    ],
)
def test_names_that_spelling_alone_tells_apart_are_found(names):
    assert find_spellings([*names, "other"]) == [sorted(names)]


@pytest.mark.parametrize(
    "names",
    [["P1", "P10"], ["1.5", "1.05"], ["1", "10"], ["a-1", "a1"], ["0", "00x"], ["2.0", "20"]],
)
def test_other_names_are_left_in_peace(names):
    assert find_spellings(names) == []


def found_of(make_cohort, put, split=None, **choices):
    cohort = make_cohort(put, **choices)
    return {one.name: one for one in audit(cohort, split)}


def test_groups_that_may_be_one_are_warned_of_with_their_sides(make_cohort):
    def put(files):
        files.samples["group"] = [f"{'Pp'[n % 2]}{n // 4:03d}" for n in range(200)]

    split = np.array(["train", "train", "train", "test"])[np.arange(200) % 4]
    found = found_of(make_cohort, put, split)["spelling:group"]
    assert (found.level, found.number) == ("warn", 50)
    assert "50 sets of groups" in found.sentence
    assert "(50 in several splits), 'P000' / 'p000'; 'P001' / 'p001'" in found.sentence
    assert english_left([found.sentence], {f"{p}{n:03d}" for p in "Pp" for n in range(4)}) == {}


def test_labels_samples_and_categories_are_looked_at_too(make_cohort):
    def put(files):
        names = files.samples["sample_id"].tolist()
        names[1] = names[0].lower() if names[0].lower() != names[0] else names[0].upper()
        new = dict(zip(files.samples["sample_id"], names, strict=True))
        files.samples["sample_id"] = names
        files.scans["sample_id"] = files.scans["sample_id"].map(new)
        files.samples["plate"] = ["A1", "a1", "B", "C"] * 50
        files.samples.loc[5:7, "label"] = "Case"

    found = found_of(make_cohort, put)
    assert {"spelling:sample_id", "spelling:plate", "spelling:label"} <= set(found)
    assert "'Case' / 'case'" in found["spelling:label"].sentence
    known = {"'Case'", "'case'", "plate", "a1", "A1", "Case", "case"}
    assert english_left([found["spelling:label"].sentence], known) == {}


def test_sound_names_are_not_warned_of(make_cohort):
    assert not [name for name in found_of(make_cohort, None) if name.startswith("spelling:")]

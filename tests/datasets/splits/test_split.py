from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.cohort import Cohort
from datasets.errors import CohortError
from datasets.splits.split import (
    SUBSETS,
    hash_split,
    make_split,
    read_splits,
    stratified_group_split,
    write_splits,
)

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=60, unique=True)
SEEDS = st.integers(0, 2**32 - 1)
HASHED_FRACTIONS = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(
    lambda parts: [part / sum(parts) for part in parts]
)


def plates(sizes, classes=2, seed=0):
    """Targets and groups of plates of these sizes, the classes mixed in each."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"plate{number}" for number in range(len(sizes))], sizes)
    return rng.integers(0, classes, len(groups)), groups


def groups_on(split, groups):
    return [len(set(groups[split == side])) for side in SUBSETS]


# make_split

COHORTS = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=25
)  # a group is the list of its samples' classes
FRACTIONS = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(
    lambda parts: [part / sum(parts) for part in parts]
)


@pytest.mark.slow
@given(COHORTS, FRACTIONS, st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_a_split_separates_no_group_and_has_every_class(members, shares, seed):
    targets = np.unique(np.concatenate(members), return_inverse=True)[1]
    groups = np.repeat([f"g{number}" for number in range(len(members))], [len(m) for m in members])
    holding = [len(set(groups[targets == number])) for number in range(targets.max() + 1)]
    try:
        split = make_split(targets, groups, shares, seed)
    except CohortError:
        # With one class three groups suffice; of several, few groups may be entangled.
        assert min(holding) < 3 or len(holding) > 1
        return
    assert min(holding) >= 3
    assert set(split) == set(SUBSETS)
    for group in set(groups):
        assert len(set(split[groups == group])) == 1
    for side in SUBSETS:
        assert set(targets[split == side]) == set(targets)
    np.testing.assert_array_equal(split, make_split(targets, groups, shares, seed))


# Sides drawn by earlier versions: a configuration gives the same split for good.
DRAWN = {
    "classes of single patients": ["339b83c0d4da1acb", "45d283e6e16383e9", "0797af4e178185b7"],
    "classes on plates": ["19c323883a7f3541", "005bcf726ef1344b", "8ac59fbbd29fb0f7"],
    "labels": ["fd0b729001582379", "ec7432a53635fdf6", "d47714bcdb8d951d"],
    "values": ["ec1d8c94d87e0bc3", "cba6056f2b9c35f0", "b850ba853be69b30"],
}


@pytest.mark.parametrize("kind", DRAWN)
def test_a_seed_gives_the_split_that_it_has_always_given(kind):
    targets, groups = {
        "classes of single patients": (
            np.random.default_rng(1).integers(0, 3, 200),
            np.arange(200),
        ),
        "classes on plates": (
            np.random.default_rng(2).integers(0, 2, 360),
            np.repeat([f"plate{number}" for number in range(12)], 30),
        ),
        "labels": (
            (np.random.default_rng(3).random((200, 3)) < 0.4).astype(int),
            np.arange(200) // 2,
        ),
        "values": (np.random.default_rng(4).lognormal(size=(150, 1)), np.arange(150) // 3),
    }[kind]
    drawn = [
        hashlib.sha256("".join(side[0] for side in split).encode()).hexdigest()[:16]
        for split in (
            make_split(targets, groups, seed=0),
            make_split(targets, groups, seed=7),
            make_split(targets, groups, (0.5, 0.2, 0.3), seed=0),
        )
    ]
    assert drawn == DRAWN[kind]


def can_be_split(present):
    """Try every arrangement of G groups; present is bool [G, C]."""
    for sides in itertools.product(range(3), repeat=len(present)):
        if all(present[np.array(sides) == side].any(0).all() for side in range(3)):
            return True
    return False


def test_a_rare_arrangement_is_found_beyond_balanced_draws():
    rows = ["1110", "0111", "1110", "0011", "1101", "1101"]  # classes that each group holds
    groups, targets = np.nonzero([[cell == "1" for cell in row] for row in rows])
    for seed in range(20):
        split = make_split(targets, groups, seed=seed)
        assert all(set(targets[split == side]) == {0, 1, 2, 3} for side in SUBSETS)


@pytest.mark.slow
def test_a_cohort_is_refused_only_where_no_arrangement_exists():
    rng = np.random.default_rng(0)
    outcomes = {True: 0, False: 0}
    while min(outcomes.values()) < 5 or sum(outcomes.values()) < 60:
        present = rng.random((rng.integers(3, 7), rng.integers(2, 5))) < rng.uniform(0.3, 0.8)
        present = present[present.any(1)]
        if not len(present) or present.sum(0).min() < 3:
            continue
        groups, targets = np.nonzero(present)
        possible = can_be_split(present)
        outcomes[possible] += 1
        if possible:
            make_split(targets, groups)
        else:
            with pytest.raises(CohortError):
                make_split(targets, groups)


@pytest.mark.parametrize("fractions", [(0.7, 0.15, 0.15), (0.5, 0.2, 0.3), (0.34, 0.33, 0.33)])
def test_groups_of_one_sample_are_split_stratified_to_the_sample(fractions):
    targets = np.repeat([0, 1, 2], [611, 240, 49])
    split = make_split(targets, np.arange(900), fractions, seed=3)
    for share, side in zip(fractions, SUBSETS, strict=True):
        for number, count in enumerate([611, 240, 49]):
            got = np.sum((split == side) & (targets == number))
            assert abs(got - share * count) < 1


@pytest.mark.slow
def test_which_samples_go_where_is_random():
    targets = np.repeat([0, 1], [100, 100])
    on_test = np.mean(
        [make_split(targets, np.arange(200), seed=seed) == "test" for seed in range(200)], axis=0
    )
    # Each sample is on the test side in 0.15 of the draws, give or take 4 standard errors.
    assert np.abs(on_test - 0.15).max() < 4.5 * np.sqrt(0.15 * 0.85 / 200)


def test_six_plates_of_about_equal_size_are_split_4_1_1():
    for seed in range(40):
        sizes = np.random.default_rng(seed).integers(56, 94, 6)
        targets, groups = plates(sizes, seed=seed)
        split = make_split(targets, groups, (0.66, 0.17, 0.17), seed)
        assert groups_on(split, groups) == [4, 1, 1]


def test_other_seeds_hold_out_other_plates():
    targets, groups = plates([70] * 6)
    held_out = [groups[make_split(targets, groups, seed=seed) == "test"][0] for seed in range(60)]
    assert set(held_out) == set(groups)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_few_groups_still_give_every_side_one(count):
    targets, groups = plates([30] * count)
    for seed in range(10):
        split = make_split(targets, groups, seed=seed)
        assert groups_on(split, groups) == [count - 2, 1, 1]


def test_a_scarce_class_is_on_every_side():
    targets = np.zeros(500, dtype=int)
    targets[[7, 77, 177]] = 1
    for seed in range(20):
        split = make_split(targets, np.arange(500), (0.9, 0.05, 0.05), seed)
        assert set(split[targets == 1]) == set(SUBSETS)


def test_scarce_classes_that_hang_together_are_found_a_way():
    # Group 2 holds both; wherever it goes, the others have to fill the two sides that are left.
    members = {0: [0], 1: [0], 2: [0, 1], 3: [1], 4: [1]}
    groups = np.repeat(list(members), [len(classes) for classes in members.values()])
    targets = np.concatenate(list(members.values()))
    for seed in range(20):
        split = make_split(targets, groups, seed=seed)
        assert all(set(targets[split == side]) == {0, 1} for side in SUBSETS)


def test_a_class_in_too_few_groups_is_named():
    targets, groups = plates([30] * 6)
    targets[groups != "plate1"] = 0
    with pytest.raises(CohortError, match=r"class 'HCC' stands in only 1 group \(of 6\)"):
        make_split(targets, groups, class_names=["LC+CHB", "HCC"])
    targets, groups = plates([30] * 2)
    with pytest.raises(CohortError, match=r"class '0' stands in only 2 groups \(of 2\)"):
        make_split(targets, groups)


def test_entangled_groups_are_refused_with_class_counts():
    # Classes 0 and 1 want groups 2 and 3 on the same side, class 2 wants them apart.
    members = {0: [0, 1], 1: [0, 1], 2: [0, 2], 3: [1, 2], 4: [2]}
    groups = np.repeat(list(members), [len(classes) for classes in members.values()])
    targets = np.concatenate(list(members.values()))
    with pytest.raises(CohortError, match=r"none of 500 draws .* '0' in 3, '1' in 3, '2' in 3"):
        make_split(targets, groups)


@pytest.mark.parametrize(
    "fractions", [(0.8, 0.2, 0.0), (0.7, 0.2, 0.2), (0.5, 0.5), (1.2, -0.1, -0.1)]
)
def test_fractions_that_are_none_are_refused(fractions):
    targets, groups = plates([10] * 6)
    with pytest.raises(CohortError, match="three numbers above 0 that sum to 1"):
        make_split(targets, groups, fractions)


# write_splits, read_splits


@pytest.fixture
def written(tmp_path):
    targets, groups = plates([5, 7, 6, 4, 5, 8])
    sample_ids = [f"{number:03d}" for number in range(len(groups))]
    split = make_split(targets, groups)
    path = tmp_path / "splits.csv"
    write_splits(path, sample_ids, groups, split)
    return path, sample_ids, groups, targets, split


def test_a_written_split_is_read_again(written):
    path, sample_ids, groups, targets, split = written
    assert path.read_text().splitlines()[0] == "sample_id,group,split"
    np.testing.assert_array_equal(read_splits(path, sample_ids, groups, targets), split)


def test_a_split_is_aligned_to_the_samples(written):
    path, sample_ids, groups, targets, split = written
    order = np.random.default_rng(0).permutation(len(groups))
    shuffled = read_splits(path, [sample_ids[i] for i in order], groups[order], targets[order])
    np.testing.assert_array_equal(shuffled, split[order])


def edit(path, row, **cells):
    lines = path.read_text().splitlines()
    names = lines[0].split(",")
    values = dict(zip(names, lines[row + 1].split(","), strict=True)) | cells
    lines[row + 1] = ",".join(values[name] for name in names)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("row", "cells", "message"),
    [
        (3, {"split": "tran"}, "unknown split 'tran'; did you mean 'train'?"),
        (3, {"sample_id": "004"}, "sample '004' stands there more than once"),
        (3, {"sample_id": "03X"}, r"the cohort has no sample '03X' \(1 such rows\)"),
        (3, {"group": "plate9"}, "'003' is in group 'plate9', but in the cohort .* 'plate0'"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(written, row, cells, message):
    path, sample_ids, groups, *_ = written
    edit(path, row, **cells)
    with pytest.raises(CohortError, match=message):
        read_splits(path, sample_ids, groups)


def test_a_group_on_two_sides_is_refused(written):
    path, sample_ids, groups, _, split = written
    other = "val" if split[3] == "train" else "train"
    edit(path, 3, split=other)
    sides = " and ".join(side for side in SUBSETS if side in (other, split[3]))
    with pytest.raises(CohortError, match=f"group 'plate0' is in {sides};"):
        read_splits(path, sample_ids, groups)


def test_missing_samples_are_refused(written):
    path, sample_ids, groups, *_ = written
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(CohortError, match=r"no row for sample '033' \(2 of 35 samples"):
        read_splits(path, sample_ids, groups)


def test_a_side_without_a_class_or_a_sample_is_refused(written):
    path, sample_ids, groups, targets, split = written
    poor = np.where(split == "val", 0, targets)
    with pytest.raises(CohortError, match="split 'val' has no sample of class 'HCC'"):
        read_splits(path, sample_ids, groups, poor, ["CHB", "HCC"])
    assert len(read_splits(path, sample_ids, groups)) == len(split)
    write_splits(path, sample_ids, groups, np.where(split == "test", "train", split))
    with pytest.raises(CohortError, match="no sample is in 'test'"):
        read_splits(path, sample_ids, groups)


def test_a_test_set_need_not_hold_every_class_unless_asked(written):
    path, sample_ids, groups, targets, split = written
    one_sided = np.where(split == "test", 0, targets)
    with pytest.raises(CohortError, match="split 'test' has no sample of class '1'"):
        read_splits(path, sample_ids, groups, one_sided)
    found = read_splits(path, sample_ids, groups, one_sided, whole=("train", "val"))
    np.testing.assert_array_equal(found, split)


def test_a_missing_split_file_is_refused(written):
    path, sample_ids, groups, *_ = written
    with pytest.raises(CohortError, match=r"no file .*split\.csv; did you mean 'splits\.csv'\?"):
        read_splits(path.with_name("split.csv"), sample_ids, groups)


# Labels and values


def test_several_labels_are_on_every_side_there_and_not_there():
    rng = np.random.default_rng(0)
    targets = (rng.random((300, 4)) < [0.5, 0.1, 0.02, 0.9]).astype(np.int64)
    groups = np.arange(300) // 2
    for seed in range(10):
        split = make_split(targets, groups, seed=seed)
        for side in SUBSETS:
            assert targets[split == side].any(0).all()
            assert not targets[split == side].all(0).any()
    share = [(targets[split == side]).mean(0)[0] for side in SUBSETS]
    assert np.ptp(share) < 0.06  # of the common label, about as many everywhere
    assert all(len(set(split[groups == group])) == 1 for group in set(groups))


def test_a_label_that_is_too_rare_for_every_side_is_named():
    targets = np.zeros((30, 2), dtype=np.int64)
    targets[:15, 0] = 1
    targets[:2, 1] = 1
    with pytest.raises(CohortError, match=r"label 'sepsis=1' stands in only 2 groups \(of 30\)"):
        make_split(targets, np.arange(30), class_names=["anaemia", "sepsis"])


def test_values_are_split_over_their_whole_range():
    values = np.random.default_rng(1).lognormal(size=(200, 2))
    edges = np.quantile(values[:, 0], [0.2, 0.4, 0.6, 0.8])
    for seed in range(10):
        split = make_split(values, np.arange(200), seed=seed)
        for side, share in zip(SUBSETS, (0.7, 0.15, 0.15), strict=True):
            fifths = np.bincount(np.searchsorted(edges, values[split == side, 0]), minlength=5)
            assert np.abs(fifths - share * 40).max() <= 1
    np.testing.assert_array_equal(split, make_split(values, np.arange(200), seed=9))


@pytest.mark.parametrize(("samples", "per_group"), [(10, 1), (12, 4), (36, 6), (60, 20)])
def test_few_values_in_few_groups_are_split_all_the_same(samples, per_group):
    values = np.arange(samples, dtype=float)[:, None]  # a group holds one part of the range only
    groups = np.arange(samples) // per_group
    for seed in range(5):
        split = make_split(values, groups, seed=seed)
        assert set(split) == set(SUBSETS)
        assert all(len(set(split[groups == group])) == 1 for group in set(groups))


def test_values_in_too_few_groups_are_refused():
    with pytest.raises(CohortError, match="2 groups cannot be in each of train, val, test; at lea"):
        make_split(np.arange(8.0)[:, None], np.arange(8) % 2)


def test_a_written_split_is_checked_for_labels_not_values(tmp_path):
    path, ids, groups = tmp_path / "splits.csv", [f"s{n}" for n in range(6)], np.arange(6)
    split = np.repeat(SUBSETS, 2)
    write_splits(path, ids, groups.astype(str), split)
    labels = np.array([[1], [0], [1], [0], [1], [1]])
    with pytest.raises(CohortError, match="split 'test' has no sample of label 'sepsis=0'"):
        read_splits(path, ids, groups.astype(str), labels, ["sepsis"])
    values = np.arange(6.0)[:, None]
    assert read_splits(path, ids, groups.astype(str), values, ["x"]).tolist() == split.tolist()


# Real cohorts


def test_hcc_holds_out_whole_plates(real_data):
    cohort = Cohort.read(
        real_data / "hcc_serum_glycome_maldi", labels={"HCC": 1, "LC": 0, "CHB": 0}
    )
    held_out = set()
    for seed in range(10):
        split = make_split(cohort.targets, cohort.groups, seed=seed)
        assert groups_on(split, cohort.groups) == [4, 1, 1]
        held_out.add(cohort.groups[split == "test"][0])
    assert len(held_out) >= 3


def test_species_are_stratified(real_data):
    cohort = Cohort.read(real_data / "species_maldi")
    split = make_split(cohort.targets, cohort.groups)
    assert [np.bincount(cohort.targets[split == side]).tolist() for side in SUBSETS[1:]] == [
        [1] * 4,
        [1] * 4,
    ]


def sides_of(groups, fractions=(0.7, 0.15, 0.15), seed=0):
    """The side of each group, of as many values as it takes to have every side."""
    filler = np.array([f"filler {number}" for number in range(400)])
    everyone = np.concatenate([np.asarray(groups, dtype=str), filler])
    split = hash_split(np.zeros((len(everyone), 1)), everyone, fractions, seed)
    return split[: len(groups)].tolist()


@pytest.mark.slow
@given(NAMES, st.data(), SEEDS)
@settings(max_examples=150)
def test_new_patients_move_nobody_and_neither_does_their_order(names, data, seed):
    before = dict(zip(names, sides_of(names, seed=seed), strict=True))
    new = data.draw(NAMES)
    together = data.draw(st.permutations([*names, *(set(new) - set(names))]))
    after = dict(zip(together, sides_of(together, seed=seed), strict=True))
    assert {name: after[name] for name in names} == before


@pytest.mark.slow
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=80),
    HASHED_FRACTIONS,
    SEEDS,
)
@settings(max_examples=150)
def test_no_group_is_ever_apart_and_every_side_has_every_class(members, fractions, seed):
    targets = np.unique(np.concatenate(members), return_inverse=True)[1]
    groups = np.repeat([f"g{number}" for number in range(len(members))], [len(m) for m in members])
    try:
        split = hash_split(targets, groups, fractions, seed)
    except CohortError:
        return
    for group in set(groups):
        assert len(set(split[groups == group])) == 1
    for side in SUBSETS:
        assert set(targets[split == side]) == set(targets)


def test_sides_have_about_their_fractions():
    names = [f"patient {number}" for number in range(6000)]
    sides = sides_of(names, (0.5, 0.2, 0.3), seed=4)
    for side, share in zip(SUBSETS, (0.5, 0.2, 0.3), strict=True):
        # Within four standard errors.
        assert abs(sides.count(side) / 6000 - share) < 4 * np.sqrt(share * (1 - share) / 6000)


def test_the_hashed_split_of_a_name_is_fixed():
    names = ["P001", "P002", "P003", "P004", "Zürich 7", "plate9"]
    assert sides_of(names) == ["train", "train", "test", "train", "train", "train"]
    assert sides_of(names, seed=1) == ["val", "val", "train", "train", "train", "train"]


def test_a_side_without_a_class_is_refused_with_the_counts():
    groups = np.array([f"P{number}" for number in range(60)])
    targets = (np.arange(60) < 2).astype(int)
    with pytest.raises(
        CohortError,
        match=r"split '\w+' has no sample of class 'case' \(train \d, val \d, test \d\)",
    ):
        hash_split(targets, groups, class_names=["control", "case"])
    labels = np.stack([np.arange(60) % 2, np.arange(60) < 2], axis=1).astype(int)
    with pytest.raises(CohortError, match="has no sample of label 'sepsis=1'"):
        hash_split(labels, groups, class_names=["anaemia", "sepsis"])


def test_a_side_without_a_group_is_refused():
    with pytest.raises(CohortError, match="none of 2 groups is in '"):
        hash_split(np.arange(4.0)[:, None], np.array(["a", "a", "b", "b"]))


def test_wrong_fractions_are_refused():
    with pytest.raises(CohortError, match="three numbers above 0 that sum to 1"):
        hash_split(np.array([0, 1]), np.array(["a", "b"]), (0.5, 0.2, 0.2))


def test_single_samples_are_split_in_the_shares_asked_for():
    targets, groups = np.array([0, 1] * 10), np.arange(20)
    split = make_split(targets, groups, (0.6, 0.2, 0.2))
    assert [int((split == subset).sum()) for subset in SUBSETS] == [12, 4, 4]
    drawn = stratified_group_split(targets, groups, ["a", "b"], [0.8, 0.2])
    assert np.bincount(drawn).tolist() == [16, 4]

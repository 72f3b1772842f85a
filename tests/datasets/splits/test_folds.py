from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from datasets.errors import CohortError
from datasets.splits.folds import Folds, k_folds, leave_one_batch_out, leave_one_group_out
from datasets.splits.split import SUBSETS

# Groups of one to six samples, few or many, and what is to be learned of each sample.
GROUP_SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=40)
TASKS = st.sampled_from(["classes", "labels", "values"])
SEEDS = st.integers(0, 2**32 - 1)


def make_samples(sizes, task, strata, seed):
    """Targets of so many classes or labels, or skewed values, in groups of these sizes."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"p{number}" for number in range(len(sizes))], sizes)
    if task == "classes":
        # Often a class fills whole groups, as where a group is a patient.
        targets = rng.integers(0, strata, len(sizes)).repeat(sizes)
        mixed = rng.random(len(groups)) < 0.3
        targets[mixed] = rng.integers(0, strata, int(mixed.sum()))
        return np.unique(targets, return_inverse=True)[1], groups
    if task == "labels":
        return (rng.random((len(groups), strata)) < rng.uniform(0.1, 0.9, strata)).astype(
            int
        ), groups
    return rng.lognormal(size=(len(groups), strata)).round(1), groups


def assert_no_group_is_apart(split, groups):
    sides = pd.DataFrame({"group": groups, "side": split}).groupby("group")["side"].nunique()
    assert (sides == 1).all()


def held(targets, chosen):
    """What stands among the chosen samples: classes, or each label there and not there."""
    if targets.dtype.kind == "f":
        return {True} if chosen.any() else set()
    if targets.ndim == 1:
        return set(targets[chosen])
    return {(t, v) for t, column in enumerate(targets[chosen].T) for v in set(column)}


@pytest.mark.slow
@given(GROUP_SIZES, TASKS, st.integers(2, 4), st.integers(2, 7), SEEDS)
@settings(max_examples=250)
def test_every_sample_is_tested_once_and_no_group_is_ever_apart(sizes, task, strata, count, seed):
    targets, groups = make_samples(sizes, task, strata, seed)
    try:
        folds = k_folds(targets, groups, count, seed)
    except CohortError:
        return  # which cohorts those are is tested below
    assert_no_group_is_apart(folds.number_of, groups)
    assert sorted(set(folds.number_of)) == list(range(count))
    everything = held(targets, np.ones(len(groups), dtype=bool))
    tested = np.zeros(len(groups), dtype=int)
    for number in range(count):
        tests = folds.number_of == number
        assert held(targets, tests) == everything
        tested += tests
        try:
            split = folds.split(number, targets, groups, 0.2, seed)
        except CohortError:
            continue
        assert_no_group_is_apart(split, groups)
        assert set(split) == set(SUBSETS)
        np.testing.assert_array_equal(split == "test", tests)
        for side in SUBSETS:
            assert held(targets, split == side) == everything
    assert (tested == 1).all()
    np.testing.assert_array_equal(k_folds(targets, groups, count, seed).number_of, folds.number_of)


@pytest.mark.slow
@given(GROUP_SIZES, TASKS, st.integers(2, 4), SEEDS)
@settings(max_examples=100)
def test_each_group_is_left_out_once_and_alone(sizes, task, strata, seed):
    targets, groups = make_samples(sizes, task, strata, seed)
    if len(sizes) == 1:
        with pytest.raises(CohortError, match="one group only, 'p0': none is left"):
            leave_one_group_out(groups)
        return
    folds = leave_one_group_out(groups)
    assert sorted(folds.names) == sorted(set(groups))
    tested = np.zeros(len(groups), dtype=int)
    for number, name in enumerate(folds.names):
        try:
            split = folds.split(number, targets, groups, 0.2, seed)
        except CohortError:
            continue
        assert set(groups[split == "test"]) == {name}
        assert_no_group_is_apart(split, groups)
        assert held(targets, split == "train") == held(targets, split == "val")
        tested += split == "test"
    assert tested.max(initial=0) <= 1
    assert [folds.names[n] for n in folds.number_of] == groups.tolist()


@pytest.mark.slow
@given(GROUP_SIZES, st.integers(1, 6), SEEDS)
@settings(max_examples=100)
def test_a_batch_is_left_out_whole_with_all_its_groups(sizes, batches, seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"p{number}" for number in range(len(sizes))], sizes)
    sites = rng.integers(0, batches, len(sizes)).repeat(sizes).astype(str)
    samples = pd.DataFrame({"sample_id": [f"s{n}" for n in range(len(groups))], "site": sites})
    if len(set(sites)) == 1:
        with pytest.raises(CohortError, match="there is one site only"):
            leave_one_batch_out(samples, "site", groups)
        return
    folds = leave_one_batch_out(samples, "site", groups)
    assert folds.kind == "site"
    assert [folds.names[number] for number in folds.number_of] == sites.tolist()
    assert_no_group_is_apart(folds.number_of, groups)


def test_folds_have_about_equal_sizes_and_classes():
    targets = np.repeat([0, 1, 2], [600, 240, 60])
    order = np.random.default_rng(0).permutation(900)
    folds = k_folds(targets[order], np.arange(900), 5, seed=1)
    for number in range(5):
        assert np.bincount(targets[order][folds.number_of == number]).tolist() == [120, 48, 12]


def test_values_are_spread_over_all_folds():
    values = np.random.default_rng(1).lognormal(size=(200, 1))
    folds = k_folds(values, np.arange(200), 4, seed=1)
    edges = np.quantile(values, [0.2, 0.4, 0.6, 0.8])
    for number in range(4):
        fifths = np.searchsorted(edges, values[folds.number_of == number, 0])
        assert np.bincount(fifths, minlength=5).tolist() == [10] * 5


def test_other_seeds_make_other_folds():
    targets, groups = np.arange(60) % 2, np.arange(60)
    first, second = (k_folds(targets, groups, 3, seed).number_of for seed in (0, 1))
    assert (first != second).any()


def test_folds_are_found_where_even_ones_lack_a_class():
    """Three of six plates hold the cases: each fold has to get one of them."""
    sizes, cases = [12, 31, 1, 22, 29, 19], [10, 0, 0, 2, 0, 1]
    groups = np.repeat([f"plate{number}" for number in range(6)], sizes)
    pairs = zip(sizes, cases, strict=True)
    targets = np.concatenate([np.arange(size) < count for size, count in pairs]).astype(int)
    even = StratifiedGroupKFold(3, shuffle=True, random_state=0).split(targets, targets, groups)
    assert any(set(targets[tested]) == {0} for _, tested in even)
    folds = k_folds(targets, groups, 3)
    assert all(set(targets[folds.number_of == number]) == {0, 1} for number in range(3))
    assert_no_group_is_apart(folds.number_of, groups)


def test_too_few_groups_for_the_folds_are_refused_by_class():
    groups = np.arange(40) // 2
    targets = (np.arange(40) < 6).astype(int)
    with pytest.raises(
        CohortError, match=r"class 'case' stands in only 3 groups \(of 20\); .* fold 4 .* least 5"
    ):
        k_folds(targets, groups, 5, class_names=["control", "case"])
    with pytest.raises(
        CohortError, match="3 groups cannot be in each of fold 0, fold 1, fold 2, fold 3; "
    ):
        k_folds(np.arange(9.0)[:, None], np.arange(9) % 3, 4)
    with pytest.raises(CohortError, match="1 folds: at least 2"):
        k_folds(targets, groups, 1)


def test_a_class_only_in_the_test_set_is_named_with_the_fold():
    groups = np.arange(40)
    targets = (np.arange(40) < 2).astype(int)
    folds = k_folds(targets, groups, 2, class_names=["control", "case"])
    with pytest.raises(
        CohortError,
        match=r"with fold 1 as the test set: class 'case' stands in only 1 group .* train, val",
    ):
        folds.split(1, targets, groups, 0.2, class_names=["control", "case"])


def test_the_validation_share_is_of_what_is_not_tested():
    targets, groups = np.arange(200) % 2, np.arange(200)
    split = k_folds(targets, groups, 5).split(3, targets, groups, 0.25)
    assert [int((split == side).sum()) for side in SUBSETS] == [120, 40, 40]


def test_a_fold_is_chosen_by_number_or_by_name():
    folds = leave_one_group_out(np.array(["plate9", "plate10", "plate2"]))
    assert [folds.find(fold) for fold in (0, 2, "plate2", "plate9")] == [0, 2, 1, 2]
    with pytest.raises(CohortError, match="fold 3 is out of range: there are 3, from 0 to 2"):
        folds.find(3)
    with pytest.raises(CohortError, match="no group is called 'plate1'; did you mean 'plate10'"):
        folds.find("plate1")
    numbered = leave_one_group_out(np.array(["10", "9"]))
    assert (numbered.names, numbered.find("10"), numbered.find(1)) == (["9", "10"], 1, 1)


def site_table(**columns):
    return pd.DataFrame({"sample_id": ["a", "b", "c", "d"], **columns})


def test_a_group_in_several_batches_is_named():
    samples = site_table(site=["north", "south", "north", "west"])
    with pytest.raises(
        CohortError, match=r"group 'q' stands in several batches of 'site': north, south \(1 such"
    ):
        leave_one_batch_out(samples, "site", np.array(["p", "q", "q", "r"]))


def test_an_unknown_batch_column_and_a_missing_batch_are_named():
    samples = site_table(site=["north", None, "north", "west"])
    with pytest.raises(CohortError, match=r"no column 'sites' .*; did you mean 'site'"):
        leave_one_batch_out(samples, "sites", np.arange(4))
    with pytest.raises(CohortError, match=r"sample 'b' has no 'site' \(1 samples have none\)"):
        leave_one_batch_out(samples, "site", np.arange(4))


def test_batches_read_as_numbers_are_named_as_whole_ones():
    samples = site_table(day=[10.0, 9.0, 10.0, 11.5])
    assert leave_one_batch_out(samples, "day", np.arange(4)).names == ["9", "10", "11.5"]


def test_a_fold_that_holds_everything_is_refused():
    folds = Folds("site", ["north"], np.zeros(4, dtype=np.int64))
    with pytest.raises(CohortError, match="site 'north' holds every sample"):
        folds.split(0, np.array([0, 1, 0, 1]), np.arange(4), 0.2)


def test_a_name_wins_over_a_number():
    folds = leave_one_group_out(np.array(["1", "6", "7", "12"]))
    assert [folds.names[folds.find(fold)] for fold in (1, "1", 6, 7, 12)] == [
        *("1", "1", "6", "7", "12")
    ]
    assert [folds.names[folds.find(fold)] for fold in (0, 2, 3)] == ["1", "7", "12"]
    with pytest.raises(CohortError, match=r"fold 9 is out of range.* no group is called '9'.*1, 6"):
        folds.find(9)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import CohortError
from datasets.splits.hashing import hash_split
from datasets.splits.split import SIDES

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=60, unique=True)
SEEDS = st.integers(0, 2**32 - 1)
FRACTIONS = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(
    lambda parts: [part / sum(parts) for part in parts]
)


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
    FRACTIONS,
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
    for side in SIDES:
        assert set(targets[split == side]) == set(targets)


def test_sides_have_about_their_fractions():
    names = [f"patient {number}" for number in range(6000)]
    sides = sides_of(names, (0.5, 0.2, 0.3), seed=4)
    for side, share in zip(SIDES, (0.5, 0.2, 0.3), strict=True):
        # Within four standard errors.
        assert abs(sides.count(side) / 6000 - share) < 4 * np.sqrt(share * (1 - share) / 6000)


def test_the_side_of_a_name_is_the_same_on_every_machine_and_in_every_version():
    names = ["P001", "P002", "P003", "P004", "Zürich 7", "plate9"]
    assert sides_of(names) == ["train", "train", "test", "train", "train", "train"]
    assert sides_of(names, seed=1) == ["val", "val", "train", "train", "train", "train"]


def test_a_side_without_a_class_is_refused_with_the_counts():
    groups = np.array([f"P{number}" for number in range(60)])
    targets = (np.arange(60) < 2).astype(int)
    with pytest.raises(
        CohortError, match=r"side '\w+' has no sample of class 'case' \(train \d, val \d, test \d\)"
    ):
        hash_split(targets, groups, class_names=["control", "case"])
    labels = np.stack([np.arange(60) % 2, np.arange(60) < 2], axis=1).astype(int)
    with pytest.raises(CohortError, match="has no sample of label 'sepsis=1'"):
        hash_split(labels, groups, class_names=["anaemia", "sepsis"])


def test_a_side_without_a_group_is_refused():
    with pytest.raises(CohortError, match="none of 2 groups is on '"):
        hash_split(np.arange(4.0)[:, None], np.array(["a", "a", "b", "b"]))


def test_wrong_fractions_are_refused():
    with pytest.raises(CohortError, match="three numbers above 0 that sum to 1"):
        hash_split(np.array([0, 1]), np.array(["a", "b"]), (0.5, 0.2, 0.2))

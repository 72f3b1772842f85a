from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import CohortError
from datasets.splits.group_draw import stratified_group_split

# What is drawn into three sides is tested with the split that does it, in test_split.py.


@pytest.mark.parametrize("sides", [["a", "b"], ["a", "b", "c", "d", "e"]])
def test_any_number_of_sides_get_their_shares_of_every_class(sides):
    targets = np.repeat([0, 1], [150, 50])
    shares = [1 / len(sides)] * len(sides)
    drawn = stratified_group_split(targets, np.arange(200), sides, shares, seed=2)
    for number in range(len(sides)):
        found = np.bincount(targets[drawn == number], minlength=2)
        assert found.tolist() == [150 / len(sides), 50 / len(sides)]


def test_sides_that_cannot_all_have_a_class_are_named():
    with pytest.raises(CohortError, match=r"only 2 groups \(of 6\); to be on each of a, b, c, d w"):
        stratified_group_split(np.array([0, 0, 0, 0, 1, 1]), np.arange(6), list("abcd"), [0.25] * 4)


def test_targets_without_their_groups_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="differ in length"):
        stratified_group_split(np.zeros(3, dtype=int), np.arange(2), ["a", "b"], [0.5, 0.5])
    with pytest.raises(CohortError, match="without samples cannot be split"):
        stratified_group_split(np.zeros(0, dtype=int), np.arange(0), ["a", "b"], [0.5, 0.5])

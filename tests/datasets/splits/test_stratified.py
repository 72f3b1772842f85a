from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import CohortError
from datasets.splits.split import class_strata, quantile_strata, stratified_group_split

# What is drawn into three sides is tested with the split that does it, in test_split.py.


def test_each_sample_is_in_the_set_of_its_class():
    strata = class_strata(np.array([2, 0, 2]), ["a", "b", "c"])
    assert strata.members.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert (strata.kind, strata.names) == ("class", ["a", "b", "c"])


def test_each_label_puts_a_sample_into_one_of_two_sets():
    strata = class_strata(np.array([[1, 0], [0, 0]]))
    assert strata.names == ["0=1", "1=1", "0=0", "1=0"]
    assert strata.members.tolist() == [[1, 0, 0, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize("bins", [1, 2, 5])
def test_quantiles_are_of_equal_size_and_in_order(bins):
    values = np.random.default_rng(0).permutation(np.exp(np.linspace(0, 9, 100)))
    strata = quantile_strata(values, bins)
    assert strata.members.sum(0).tolist() == [100 // bins] * bins
    number = strata.members.argmax(1)
    assert (np.diff(number[np.argsort(values)]) >= 0).all()


def test_equal_values_are_in_one_set():
    strata = quantile_strata(np.array([0.0] * 8 + [1.0, 2.0]), 5)
    assert strata.members[:8].sum(0).tolist()[0] == 8
    assert strata.members.sum(1).tolist() == [1] * 10


@pytest.mark.parametrize("sides", [["a", "b"], ["a", "b", "c", "d", "e"]])
def test_any_number_of_sides_get_their_shares_of_every_class(sides):
    targets = np.repeat([0, 1], [150, 50])
    shares = [1 / len(sides)] * len(sides)
    drawn = stratified_group_split(targets, np.arange(200), sides, shares, seed=2)
    for number in range(len(sides)):
        found = np.bincount(targets[drawn == number], minlength=2)
        assert found.tolist() == [150 / len(sides), 50 / len(sides)]


def test_sides_that_cannot_all_have_a_class_are_named():
    with pytest.raises(CohortError, match=r"only 2 groups \(of 6\); to be in each of a, b, c, d w"):
        stratified_group_split(np.array([0, 0, 0, 0, 1, 1]), np.arange(6), list("abcd"), [0.25] * 4)


def test_targets_and_groups_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="differ in length"):
        stratified_group_split(np.zeros(3, dtype=int), np.arange(2), ["a", "b"], [0.5, 0.5])
    with pytest.raises(CohortError, match="without samples cannot be split"):
        stratified_group_split(np.zeros(0, dtype=int), np.arange(0), ["a", "b"], [0.5, 0.5])

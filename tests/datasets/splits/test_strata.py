from __future__ import annotations

import numpy as np
import pytest

from datasets.splits.strata import class_strata, quantile_strata


def test_each_sample_is_in_the_set_of_its_class():
    strata = class_strata(np.array([2, 0, 2]), ["a", "b", "c"])
    assert strata.members.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert (strata.kind, strata.names) == ("class", ["a", "b", "c"])


def test_each_label_puts_a_sample_into_one_of_two_sets():
    strata = class_strata(np.array([[1, 0], [0, 0]]))
    assert strata.names == ["0=1", "1=1", "0=0", "1=0"]
    assert strata.members.tolist() == [[1, 0, 0, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize("bins", [1, 2, 5])
def test_quantiles_hold_as_many_samples_each_and_keep_their_order(bins):
    values = np.random.default_rng(0).permutation(np.exp(np.linspace(0, 9, 100)))
    strata = quantile_strata(values, bins)
    assert strata.members.sum(0).tolist() == [100 // bins] * bins
    number = strata.members.argmax(1)
    assert (np.diff(number[np.argsort(values)]) >= 0).all()


def test_equal_values_are_in_one_set():
    strata = quantile_strata(np.array([0.0] * 8 + [1.0, 2.0]), 5)
    assert strata.members[:8].sum(0).tolist()[0] == 8
    assert strata.members.sum(1).tolist() == [1] * 10

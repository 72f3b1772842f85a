from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import UsageError
from datasets.loading.same_target import SameTarget


def drawn(others: SameTarget, index: int) -> set[int | None]:
    return {others.draw(index, np.random.default_rng(seed)) for seed in range(100)}


def test_any_other_sample_of_the_same_class_is_drawn_and_none_else():
    others = SameTarget(np.array([2, 0, 2, 1, 2, 0]))
    assert drawn(others, 0) == {2, 4}
    assert drawn(others, 2) == {0, 4}
    assert drawn(others, 5) == {1}
    assert drawn(others, 3) == {None}


def test_of_several_labels_all_are_the_same():
    labels = np.array([[1, 0], [1, 1], [1, 0], [0, 0], [1, 1]])
    others = SameTarget(labels)
    assert [drawn(others, index) for index in range(5)] == [{2}, {4}, {0}, {None}, {1}]


def test_all_are_drawn_alike():
    others = SameTarget(np.zeros(5, dtype=int))
    rng = np.random.default_rng(0)
    counts = np.bincount([others.draw(2, rng) or 0 for _ in range(4000)], minlength=5)
    assert counts[2] == 0
    np.testing.assert_allclose(counts[[0, 1, 3, 4]] / 4000, 0.25, atol=0.03)


def test_values_to_regress_have_no_class():
    with pytest.raises(UsageError, match="mixup mixes samples of one class; values to regress"):
        SameTarget(np.array([0.5, 1.5]))

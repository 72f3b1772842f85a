from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import UsageError
from datasets.loading.samplers import BalancedDraw, make_draw

KINDS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(strata=KINDS, seed=st.integers(0, 99))
def test_each_kind_is_drawn_equally_often_up_to_one(strata, seed):
    drawn = BalancedDraw(strata)(np.random.default_rng(seed))
    counts = Counter(np.array(strata)[drawn].tolist())
    assert len(drawn) == len(strata)
    assert counts.keys() == set(strata)
    assert max(counts.values()) - min(counts.values()) <= 1


@given(strata=KINDS, seed=st.integers(0, 99))
def test_no_sample_is_taken_again_before_all_of_its_kind_were(strata, seed):
    drawn = BalancedDraw(strata)(np.random.default_rng(seed))
    for kind in set(strata):
        members = np.flatnonzero(np.array(strata) == kind)
        often = [int((drawn == member).sum()) for member in members]
        assert max(often) - min(often) <= 1


def test_over_many_epochs_samples_of_a_kind_are_taken_alike():
    strata = ["common"] * 7 + ["rare"] * 3
    draw, rng = BalancedDraw(strata, np.arange(10)), np.random.default_rng(0)
    often = np.bincount(np.concatenate([draw(rng) for _ in range(7000)]), minlength=10) / 7000
    np.testing.assert_allclose(often[:7], 5 / 7, atol=0.03)
    np.testing.assert_allclose(often[7:], 5 / 3, atol=0.03)


def test_epochs_draw_other_samples_of_a_common_kind():
    draw = BalancedDraw([0] * 50 + [1] * 5)
    one, two = (set(draw(np.random.default_rng(seed)).tolist()) for seed in (1, 2))
    assert one != two


@pytest.mark.slow
@given(
    samples=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), min_size=1, max_size=50),
    seed=st.integers(0, 99),
)
def test_no_draw_is_larger_than_the_largest(samples, seed):
    strata, sizes = (np.array(part) for part in zip(*samples, strict=True))
    draw = BalancedDraw(strata, sizes)
    drawn = np.sort(sizes[draw(np.random.default_rng(seed))])[::-1]
    largest = draw.largest()
    assert len(largest) == len(samples)
    assert (drawn <= largest).all()


def test_sizes_are_drawn_evenly():
    sizes = np.arange(1000) % 20 + 1
    draw = BalancedDraw(np.arange(1000) % 10 == 0, sizes)
    means = [sizes[draw(np.random.default_rng(seed))[:500]].mean() for seed in range(20)]
    assert np.ptp(means) < 0.1


def test_kinds_that_do_not_fit_are_refused():
    assert make_draw(None, 3, shuffle=False) is None
    with pytest.raises(ValueError, match="strata of 2 samples, but there are 3"):
        make_draw([0, 1], 3, shuffle=True)
    with pytest.raises(ValueError, match="needs shuffle"):
        make_draw([0, 1], 2, shuffle=False)
    with pytest.raises(UsageError, match="no sample"):
        BalancedDraw([])

from __future__ import annotations

import math

import numpy as np
import pytest

from datasets.errors import UsageError
from engine.statistics.threshold_rules import DEFAULT, RULES, check_demand, check_rule, cut

TAKE_NONE = ("youden", "f1", DEFAULT)


def test_a_rule_that_does_not_exist_is_refused_with_the_nearest_one():
    with pytest.raises(UsageError, match="'yuden'; did you mean 'youden'"):
        check_rule("yuden")


@pytest.mark.parametrize("rule", [*RULES, DEFAULT])
def test_the_usual_demand_is_one_that_the_rule_takes(rule):
    usual = check_demand(rule, None)
    assert (usual is None) == (rule in TAKE_NONE)
    assert check_demand(rule, usual) == usual


@pytest.mark.parametrize("rule", TAKE_NONE)
def test_a_demand_on_a_rule_that_takes_none_is_refused(rule):
    with pytest.raises(UsageError, match=f"the rule '{rule}' takes no demand"):
        check_demand(rule, 0.5)


@pytest.mark.parametrize(
    ("rule", "demands"),
    [
        ("recall", [0, 1.01, -0.5, math.nan, math.inf]),
        ("fpr", [1, -0.01, math.nan]),
        ("cost", [0, -1, math.inf, math.nan]),
    ],
)
def test_a_demand_out_of_range_is_refused(rule, demands):
    for demand in demands:
        with pytest.raises(UsageError, match=f"the rule '{rule}' takes a ") as error:
            check_demand(rule, demand)
        assert "\n" not in str(error.value)


def test_the_ends_of_the_range_are_taken():
    assert check_demand("recall", 1) == 1
    assert check_demand("fpr", 0) == 0


def test_each_cut_parts_the_scores_where_its_counts_say():
    scores = np.array([0.0, 0.2, 0.2, 0.7, 0.7, 1.0])
    positive = np.array([False, True, False, True, True, False])
    cuts = cut(scores, positive)
    assert len(cuts.threshold) == 5  # four distinct scores
    for threshold, true, false in zip(cuts.threshold, cuts.true, cuts.false, strict=True):
        assert true == (positive & (scores >= threshold)).sum()
        assert false == (~positive & (scores >= threshold)).sum()
    assert (cuts.positives, cuts.negatives) == (3, 3)
    assert cuts.threshold == pytest.approx([math.inf, 0.85, 0.45, 0.1, 0.0])


def test_neighbouring_floating_point_numbers_are_still_parted():
    low = 0.3
    high = float(np.nextafter(low, 1))
    cuts = cut(np.array([low, high]), np.array([False, True]))
    assert list(cuts.true + cuts.false) == [0, 1, 2]
    assert low < cuts.threshold[1] <= high


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_says_what_it_chooses_and_how_it_is_written(rule):
    assert RULES[rule].aim
    assert RULES[rule].form.format(RULES[rule].usual).startswith(rule)

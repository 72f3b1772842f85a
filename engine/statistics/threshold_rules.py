"""The rules by which a threshold can be chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datasets.errors import UsageError, nearest

# The rule that takes no data: 0.5, whatever the scores.
DEFAULT = "default"


@dataclass(frozen=True)
class Cuts:
    """What each way to cut the scores in two would give, the highest threshold first.

    Attributes:
        threshold: Midway between two neighbouring scores, [K].
        true: Positives that reach it, [K].
        false: Negatives that reach it, [K].
        positives: All there are.
        negatives: All there are.
    """

    threshold: np.ndarray
    true: np.ndarray
    false: np.ndarray
    positives: int
    negatives: int


@dataclass(frozen=True)
class Rule:
    """A way to choose a threshold.

    Attributes:
        aim: What it chooses, for a person.
        worth: From cuts and the demand to a number for each cut, [K]; the largest is taken.
        form: Its name with a place for the demand.
        usual: The demand where none is given; None of a rule that takes none.
        expects: Which demands there can be, for a person.
        allows: Whether a demand is one of them.
    """

    aim: str
    worth: Callable[[Cuts, float], np.ndarray]
    form: str
    usual: float | None = None
    expects: str = ""
    allows: Callable[[float], bool] = math.isfinite


# Whole numbers and quotients of them: what is equal is a tie, and no matter of rounding.
RULES: dict[str, Rule] = {
    # Youden 1950, "Index for rating diagnostic tests".
    "youden": Rule(
        "sensitivity + specificity is largest",
        lambda cuts, _: cuts.true * cuts.negatives - cuts.false * cuts.positives,
        "youden",
    ),
    "f1": Rule(
        "F1, the harmonic mean of precision and recall, is largest",
        lambda cuts, _: 2 * cuts.true / (cuts.positives + cuts.true + cuts.false),
        "f1",
    ),
    "recall": Rule(
        "the highest threshold at which at least this share of the positives is found",
        lambda cuts, demand: cuts.true / cuts.positives >= demand,
        "recall >= {:g}",
        0.9,
        "a share above 0, at most 1",
        lambda demand: 0 < demand <= 1,
    ),
    "fpr": Rule(
        "the lowest threshold at which at most this share of the negatives is called positive",
        # Of those that respect it, that which lets most through.
        lambda cuts, demand: np.where(
            cuts.false / cuts.negatives <= demand, cuts.true + cuts.false, -1
        ),
        "fpr <= {:g}",
        0.1,
        "a share from 0, below 1",
        lambda demand: 0 <= demand < 1,
    ),
    # At a cost of 1 it is the accuracy that is largest.
    "cost": Rule(
        "what errors cost is least, where a missed positive costs so many false alarms",
        lambda cuts, demand: -(demand * (cuts.positives - cuts.true) + cuts.false),
        "cost {:g}",
        1.0,
        "a finite number above 0",
        lambda demand: 0 < demand < math.inf,
    ),
}


def check_rule(rule: str) -> str:
    """Refuse a rule that does not exist.

    Raises:
        UsageError: Names the nearest one.

    Example:
        >>> check_rule("youden")
        'youden'
    """
    choices = (*RULES, DEFAULT)
    if rule not in choices:
        raise UsageError(f"no threshold rule is called '{rule}'{nearest(rule, choices)}")
    return rule


def check_demand(rule: str, demand: float | None) -> float | None:
    """The demand that a rule works with: the one given, or its usual one.

    Args:
        rule: A key of ``RULES``, or ``default``.
        demand: None takes the usual one.

    Raises:
        UsageError: The rule takes none, or not such a one.

    Example:
        >>> check_demand("recall", None), check_demand("recall", 0.95), check_demand("youden", None)
        (0.9, 0.95, None)
    """
    chosen = RULES.get(check_rule(rule))
    if chosen is None or chosen.usual is None:
        if demand is not None:
            raise UsageError(f"the rule '{rule}' takes no demand")
        return None
    if demand is None:
        return chosen.usual
    if not chosen.allows(demand):
        raise UsageError(f"the rule '{rule}' takes {chosen.expects}")
    return float(demand)


def cut(scores: np.ndarray, positive: np.ndarray) -> Cuts:
    """All ways to cut the scores in two, from nobody's being positive to everybody's.

    Args:
        scores: Probabilities [N], at least one.
        positive: bool [N].

    Returns:
        One cut more than there are different scores.

    Example:
        >>> cut(np.array([0.9, 0.3, 0.3]), np.array([True, True, False])).threshold
        array([0.95, 0.6 , 0.15])
    """
    distinct, number = np.unique(scores, return_inverse=True)
    true, false = (np.bincount(number[of], minlength=len(distinct)) for of in (positive, ~positive))
    above, below = np.append(distinct, 1.0)[::-1], np.append(0.0, distinct)[::-1]
    midway = below + (above - below) / 2
    # Between neighbouring floating-point numbers there is none.
    midway = np.where(midway > below, midway, above)
    if distinct[-1] == 1:
        midway[0] = math.inf
    return Cuts(
        midway,
        np.append(0, true[::-1].cumsum()),
        np.append(0, false[::-1].cumsum()),
        int(true.sum()),
        int(false.sum()),
    )

"""From which score on a sample is called positive: thresholds chosen on validation data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datasets.errors import UsageError
from engine.metrics import THRESHOLD, UNDEFINED
from engine.statistics.threshold_rules import DEFAULT, RULES, check_demand, cut

__all__ = [
    "COUNTS",
    "DEFAULT",
    "RULES",
    "OperatingPoint",
    "choose_threshold",
    "figures_at",
    "operating_points",
    "threshold_table",
]

COUNTS = ("tp", "fp", "fn", "tn")


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, by which rule it was chosen, and what it gives on either side.

    Attributes:
        rule: A key of ``RULES`` (``youden``), or ``default`` for 0.5.
        demand: The rule's number (the recall, the rate, the cost), None where it takes none.
        threshold: From this probability on a sample is called positive; NaN where the side it
            would be chosen on holds one class, infinite where nothing is to be called positive
            and there is a score of 1.
        val: Figure (``sensitivity``, ``specificity``, ``precision``, ...) -> value on the side it
            was chosen on; NaN where undefined.
        test: The same on the test side.
    """

    rule: str
    demand: float | None
    threshold: float
    val: Mapping[str, float]
    test: Mapping[str, float]

    @property
    def name(self) -> str:
        """The rule and its demand, as a person writes them (``recall >= 0.9``)."""
        form = RULES[self.rule].form if self.rule in RULES else self.rule
        return form.format(self.demand)


def choose_threshold(
    scores: np.ndarray, positive: np.ndarray, rule: str = "youden", demand: float | None = None
) -> float:
    """The threshold that a rule chooses on these samples.

    It lies midway between two neighbouring scores (beyond the extremes between those and 0 or 1),
    so that on new samples a score that is only a little off still falls on its side. Equal scores
    are never parted. Of thresholds that are equally good the highest is taken, which calls the
    fewest samples positive. A demand is met on these samples, which does not promise it for others.

    Args:
        scores: Probabilities [N].
        positive: bool [N].
        rule: A key of ``RULES``, or ``default`` for 0.5.
        demand: The rule's number; None takes its usual one.

    Returns:
        From this score on a sample is to be called positive. NaN where one class is all there is;
        infinity where none is to be, and there is a score of 1.

    Raises:
        UsageError: There is no such rule or demand, or the scores are no probabilities.

    Example:
        >>> scores, positive = np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False])
        >>> choose_threshold(scores, positive, "recall", 0.9)
        0.2
    """
    demand = check_demand(rule, demand)
    scores, positive = _checked(scores, positive)
    if rule == DEFAULT:
        return THRESHOLD
    if not positive.any() or positive.all():
        return UNDEFINED
    cuts = cut(scores, positive)
    # The first of the largest ones, and so the highest threshold of them.
    best = np.argmax(RULES[rule].worth(cuts, UNDEFINED if demand is None else demand))
    return float(cuts.threshold[best])


def threshold_table(
    scores: np.ndarray, positive: np.ndarray, thresholds: np.ndarray
) -> dict[str, np.ndarray]:
    """All figures of a decision at each of many thresholds, in one pass over the sorted scores.

    Args:
        scores: Probabilities [N].
        positive: bool [N].
        thresholds: [K], in any order, none NaN.

    Returns:
        ``sensitivity``, ``specificity``, ``precision``, ``npv`` (negative predictive value),
        ``f1``, ``accuracy``, ``balanced_accuracy`` and ``mcc``, float [K], NaN where undefined
        (MCC where all samples are, or are called, alike); the counts ``tp``, ``fp``, ``fn`` and
        ``tn``, int [K].

    Raises:
        UsageError: The scores are no probabilities, or a threshold is NaN.

    Example:
        >>> scores, positive = np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False])
        >>> threshold_table(scores, positive, np.array([0.2, 0.5, 1.0]))["sensitivity"]
        array([1. , 0.5, 0. ])
    """
    scores, positive = _checked(scores, positive)
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if np.isnan(thresholds).any():
        raise UsageError("thresholds: a number was expected, not NaN")
    of_positives, of_negatives = np.sort(scores[positive]), np.sort(scores[~positive])
    fn = np.searchsorted(of_positives, thresholds)
    tn = np.searchsorted(of_negatives, thresholds)
    tp, fp = len(of_positives) - fn, len(of_negatives) - tn
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        # Root by root: the product of four large counts would not fit.
        spread = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
        return {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "precision": tp / (tp + fp),
            "npv": tn / (tn + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "mcc": (tp * tn - fp * fn) / spread,
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "tn": tn,
        }


def figures_at(scores: np.ndarray, positive: np.ndarray, threshold: float) -> dict[str, float]:
    """The figures of :func:`threshold_table` at one threshold; all NaN where that is NaN.

    Args:
        scores: Probabilities [N].
        positive: bool [N].
        threshold: From it on a sample is called positive.

    Example:
        >>> found = figures_at(np.array([0.9, 0.8, 0.3]), np.array([True, False, True]), 0.5)
        >>> found["sensitivity"], found["precision"], found["tp"]
        (0.5, 0.5, 1)
    """
    wanted = 0.0 if math.isnan(threshold) else threshold
    table = threshold_table(scores, positive, np.array([wanted]))
    if math.isnan(threshold):
        return dict.fromkeys(table, UNDEFINED)
    return {name: values[0].item() for name, values in table.items()}


def operating_points(
    val_scores: np.ndarray,
    val_positive: np.ndarray,
    test_scores: np.ndarray,
    test_positive: np.ndarray,
    rule: str = "youden",
    demand: float | None = None,
) -> list[OperatingPoint]:
    """What each rule chooses on the validation side, and what that gives on either.

    Args:
        val_scores: Probabilities [N].
        val_positive: bool [N].
        test_scores: Probabilities [M]; nothing is chosen by them.
        test_positive: bool [M].
        rule: The one that comes first, as for :func:`choose_threshold`.
        demand: Its number; the other rules take their usual ones.

    Returns:
        The chosen rule's, then those of the other rules and of ``default``.
    """
    demands = {rule: demand} | {other: None for other in (*RULES, DEFAULT) if other != rule}
    points = []
    for name, given in demands.items():
        threshold = choose_threshold(val_scores, val_positive, name, given)
        points.append(
            OperatingPoint(
                name,
                check_demand(name, given),
                threshold,
                figures_at(val_scores, val_positive, threshold),
                figures_at(test_scores, test_positive, threshold),
            )
        )
    return points


def _checked(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if scores.ndim != 1 or scores.shape != positive.shape:
        raise UsageError(
            f"scores {list(scores.shape)} and positive {list(positive.shape)}: expected one of "
            "each a sample"
        )
    if not ((scores >= 0) & (scores <= 1)).all():
        raise UsageError("scores: probabilities from 0 to 1 were expected")
    return scores, positive

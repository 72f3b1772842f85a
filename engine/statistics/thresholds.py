"""Decision thresholds: rules, choice on validation data, figures at a threshold."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from datasets.errors import UsageError, nearest
from engine.metrics import THRESHOLD, UNDEFINED

# The rule without data: 0.5.
DEFAULT = "default"


@dataclass(frozen=True)
class Cuts:
    """The true and false positives at each possible threshold, the highest first, [K]."""

    threshold: np.ndarray
    true: np.ndarray
    false: np.ndarray
    positives: int
    negatives: int


@dataclass(frozen=True)
class Rule:
    """A rule to choose a threshold: the cut where ``worth``, of cuts and the demand, is largest.

    ``form`` is its name with a place for the demand, of which ``usual`` is the default; None if it
    takes none. ``expects`` describes the demands that it ``allows``.
    """

    aim: str
    worth: Callable[[Cuts, float], np.ndarray]
    form: str
    usual: float | None = None
    expects: str = ""
    allows: Callable[[float], bool] = math.isfinite


# Integers and quotients of them, so that ties are exact.
RULES: dict[str, Rule] = {
    # Youden 1950, "Index for rating diagnostic tests".
    "youden": Rule(
        "maximum of sensitivity + specificity",
        lambda cuts, _: cuts.true * cuts.negatives - cuts.false * cuts.positives,
        "youden",
    ),
    "f1": Rule(
        "maximum of F1, the harmonic mean of precision and recall",
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
        "the lowest threshold at which at most this share of the negatives is predicted positive",
        # Of the thresholds that meet it, the one with most positive predictions.
        lambda cuts, fpr: np.where(cuts.false / cuts.negatives <= fpr, cuts.true + cuts.false, -1),
        "fpr <= {:g}",
        0.1,
        "a share from 0, below 1",
        lambda demand: 0 <= demand < 1,
    ),
    # A cost of 1 maximises the accuracy.
    "cost": Rule(
        "minimum cost, with the given cost of a false negative in false positives",
        lambda cuts, demand: -(demand * (cuts.positives - cuts.true) + cuts.false),
        "cost {:g}",
        1.0,
        "a finite number above 0",
        lambda demand: 0 < demand < math.inf,
    ),
}


def check_rule(rule: str) -> str:
    """The rule; UsageError with the nearest one if it does not exist."""
    choices = (*RULES, DEFAULT)
    if rule not in choices:
        raise UsageError(f"no threshold rule is called '{rule}'{nearest(rule, choices)}")
    return rule


def check_demand(rule: str, demand: float | None) -> float | None:
    """A rule's demand, by default its usual one; UsageError if it is invalid, or takes none."""
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
    """All thresholds, from no positive prediction to all: one more than there are scores."""
    distinct, number = np.unique(scores, return_inverse=True)
    true, false = (np.bincount(number[of], minlength=len(distinct)) for of in (positive, ~positive))
    above, below = np.append(distinct, 1.0)[::-1], np.append(0.0, distinct)[::-1]
    midway = below + (above - below) / 2
    # Neighbouring floating-point numbers have no number between them.
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


COUNTS = ("tp", "fp", "fn", "tn")


@dataclass(frozen=True)
class OperatingPoint:
    """A chosen threshold and its figures (``sensitivity``, ...) on both subsets."""

    rule: str
    demand: float | None
    threshold: float
    val: Mapping[str, float]
    test: Mapping[str, float]

    @property
    def name(self) -> str:
        """The rule and its demand (``recall >= 0.9``)."""
        form = RULES[self.rule].form if self.rule in RULES else self.rule
        return form.format(self.demand)


def choose_threshold(
    scores: np.ndarray, positive: np.ndarray, rule: str = "youden", demand: float | None = None
) -> float:
    """The threshold that a rule, by default with its usual demand, chooses on N samples.

    From this score on a sample is predicted positive. It lies midway between two neighbouring
    scores (beyond the extremes between those and 0 or 1), so that slightly different new scores
    fall on the same side. Of equally good thresholds the highest is chosen. NaN with one class
    only; infinity if no sample is to be positive, and there is a score of 1.
    """
    demand = check_demand(rule, demand)
    scores, positive = _checked(scores, positive)
    if rule == DEFAULT:
        return THRESHOLD
    if not positive.any() or positive.all():
        return UNDEFINED
    cuts = cut(scores, positive)
    # argmax returns the first, so the highest threshold.
    best = np.argmax(RULES[rule].worth(cuts, UNDEFINED if demand is None else demand))
    return float(cuts.threshold[best])


def threshold_table(
    scores: np.ndarray, positive: np.ndarray, thresholds: np.ndarray
) -> dict[str, np.ndarray]:
    """All figures of the decisions at many thresholds, in one pass over the sorted scores.

    ``sensitivity``, ``specificity``, ``precision``, ``npv`` (negative predictive value), ``f1``,
    ``accuracy``, ``balanced_accuracy`` and ``mcc``, float [K], NaN if undefined; the counts ``tp``,
    ``fp``, ``fn`` and ``tn``, int [K].
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
        # Root by root: the product of four large counts would overflow.
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
    """The figures of :func:`threshold_table` at one threshold; all NaN if that is NaN."""
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
    """All rules, the given one first: chosen on the validation set, measured on both."""
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
        found = f"scores {list(scores.shape)} and positive {list(positive.shape)}"
        raise UsageError(f"{found}: expected one of each a sample")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise UsageError("scores: probabilities from 0 to 1 were expected")
    return scores, positive

"""Areas under ROC curves: how sure they are, and whether two models' differ (DeLong)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from torch import Tensor

from datasets.errors import UsageError
from engine.metrics import UNDEFINED
from engine.statistics.bootstrap import Interval, check_level


@dataclass(frozen=True)
class DeLong:
    """Two models' areas under the ROC curve on the same samples.

    Attributes:
        auc_a: The first model's.
        auc_b: The second model's.
        difference: ``auc_a - auc_b``.
        low: The difference's lower bound, NaN where none can be given.
        high: Its upper bound, likewise.
        p_value: The chance of so large a difference, either way, between equally good models.
    """

    auc_a: float = UNDEFINED
    auc_b: float = UNDEFINED
    difference: float = UNDEFINED
    low: float = UNDEFINED
    high: float = UNDEFINED
    p_value: float = UNDEFINED


@dataclass(frozen=True)
class _Wins:
    """How often a positive sample scores above a negative one, a tie counting half.

    Divided by the size of the other class these are DeLong's placement values. As counts they
    are exact, so that a variance of 0 is found as 0.
    """

    of_positives: np.ndarray  # over how many negatives, [m]
    over_negatives: np.ndarray  # of how many positives, [n]

    def __sub__(self, other: _Wins) -> _Wins:
        return _Wins(
            self.of_positives - other.of_positives, self.over_negatives - other.over_negatives
        )

    @property
    def area(self) -> float:
        pairs = len(self.of_positives) * len(self.over_negatives)
        return float(self.of_positives.sum()) / pairs

    @property
    def variance(self) -> float:
        """Of the area; NaN for classes of one sample."""
        m, n = len(self.of_positives), len(self.over_negatives)
        if min(m, n) < 2:
            return UNDEFINED
        of_positives = float(self.of_positives.var(ddof=1)) / n**2
        over_negatives = float(self.over_negatives.var(ddof=1)) / m**2
        return of_positives / m + over_negatives / n


def delong_test(scores_a: Tensor, scores_b: Tensor, target: Tensor, level: float = 0.95) -> DeLong:
    """Compare how well two models rank the same samples.

    DeLong, DeLong and Clarke-Pearson 1988, "Comparing the Areas under Two or More Correlated
    Receiver Operating Characteristic Curves"; by midranks in O(N log N) (Sun and Xu 2014, "Fast
    Implementation of DeLong's Algorithm"). It takes samples as independent of each other: with
    several a group it promises too much.

    Without both classes, or of scores that are not finite, there is no area: NaN. A variance of 0
    (each model ranks perfectly, or not at all) or of a class with one sample bounds nothing: the
    bounds are NaN, and so is the p-value, but for two models that rank alike, where it is 1.

    Args:
        scores_a: The first model's scores of the positive class, [N].
        scores_b: The second model's, [N].
        target: 1 where a sample is positive, else 0, [N].
        level: The interval's level of confidence.

    Raises:
        UsageError: The shapes differ, the target is not of two classes, or ``level`` is no share.

    Example:
        >>> import torch
        >>> target = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        >>> good = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9])
        >>> poor = torch.tensor([0.4, 0.2, 0.6, 0.7, 0.1, 0.3, 0.8, 0.9])
        >>> found = delong_test(good, poor, target)
        >>> found.auc_a, found.auc_b, round(found.p_value, 2)
        (0.9375, 0.5625, 0.1)
    """
    check_level(level)
    a, b = _wins(scores_a, target), _wins(scores_b, target)
    if a is None or b is None:
        return DeLong(a.area if a else UNDEFINED, b.area if b else UNDEFINED)
    apart = a - b
    low, high = _bounds(apart, level, -1.0)
    if apart.variance > 0:
        # Both tails of a normal distribution.
        p_value = math.erfc(abs(apart.area) / math.sqrt(2 * apart.variance))
    else:
        alike = not apart.of_positives.any() and not apart.over_negatives.any()
        p_value = 1.0 if alike else UNDEFINED
    return DeLong(a.area, b.area, apart.area, low, high, p_value)


def delong_interval(scores: Tensor, target: Tensor, level: float = 0.95) -> Interval:
    """The area under the ROC curve, and the interval that DeLong's variance gives it.

    The bounds stay within 0 and 1; they are undefined where those of :func:`delong_test` are.

    Args:
        scores: Of the positive class, [N].
        target: 1 where a sample is positive, else 0, [N].
        level: The interval's level of confidence.

    Raises:
        UsageError: The shapes differ, the target is not of two classes, or ``level`` is no share.

    Example:
        >>> import torch
        >>> scores = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9])
        >>> found = delong_interval(scores, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
        >>> found.value, round(found.low, 2), found.high
        (0.9375, 0.76, 1.0)
    """
    check_level(level)
    wins = _wins(scores, target)
    return Interval(UNDEFINED) if wins is None else Interval(wins.area, *_bounds(wins, level, 0.0))


def _bounds(wins: _Wins, level: float, least: float) -> tuple[float, float]:
    """The normal interval around an area or a difference, within ``least`` and 1."""
    if not wins.variance > 0:
        return UNDEFINED, UNDEFINED
    reach = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(wins.variance)
    return max(wins.area - reach, least), min(wins.area + reach, 1.0)


def _wins(scores: Tensor, target: Tensor) -> _Wins | None:
    """Count them, if there are any to count."""
    if scores.ndim != 1 or scores.shape != target.shape:
        raise UsageError(
            f"scores of shape {list(scores.shape)} for a target of shape {list(target.shape)}: "
            "expected [N] of both, the scores of the positive class"
        )
    values, true = scores.detach().double().cpu().numpy(), target.detach().cpu().numpy()
    positive = true == 1
    if not (positive | (true == 0)).all():
        raise UsageError(
            f"a target of DeLong's test is 0 or 1, not {true[~positive & (true != 0)][0]}"
        )
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n or not np.isfinite(values).all():
        return None
    ranks = _midranks(values)
    return _Wins(
        ranks[positive] - _midranks(values[positive]),
        m - (ranks[~positive] - _midranks(values[~positive])),
    )


def _midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 on; those that are tied share the mean of theirs."""
    _, number, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[number]

"""Whether models differ on the same samples: DeLong, McNemar, paired bootstrap, Holm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import torch
from scipy.stats import binomtest, rankdata
from torch import Tensor

from datasets.errors import UsageError
from datasets.specs import require_range
from engine.metrics import UNDEFINED, EpochOutputs, metric_value
from engine.statistics.bootstrap import (
    BOOTSTRAP,
    FEWEST_GROUPS,
    Interval,
    groups_of_rarest,
    groups_of_share,
    percentile_interval,
    resampled,
    without_bounds,
)


@dataclass(frozen=True)
class DeLong:
    """Two models' areas under the ROC curve, the difference a - b with bounds, and p, two-sided."""

    auc_a: float = UNDEFINED
    auc_b: float = UNDEFINED
    difference: float = UNDEFINED
    low: float = UNDEFINED
    high: float = UNDEFINED
    p_value: float = UNDEFINED


def delong_test(scores_a: Tensor, scores_b: Tensor, target: Tensor, level: float = 0.95) -> DeLong:
    """Compare how well two models' scores of the positive class, [N], rank the same samples.

    DeLong, DeLong and Clarke-Pearson 1988; by midranks in O(N log N) (Sun and Xu 2014, "Fast
    Implementation of DeLong's Algorithm"). Assumes independent samples: with several per group it
    is too confident.

    Areas are NaN without both classes (1 and 0) or with scores that are not finite. With a variance
    of 0 (each model ranks perfectly, or not at all), or a class of one sample, bounds are NaN, and
    the p-value is 1 if the models rank alike, else NaN.
    """
    require_range("level", level, 0, 1, open_low=True)
    a, b = _wins(scores_a, target), _wins(scores_b, target)
    if a is None or b is None:
        return DeLong(_area(a), _area(b))
    apart = a[0] - b[0], a[1] - b[1]
    areas, difference, variance = (_area(a), _area(b)), _area(apart), _variance(apart)
    if not variance > 0:
        alike = not apart[0].any() and not apart[1].any()
        return DeLong(*areas, difference, p_value=1.0 if alike else UNDEFINED)
    reach = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(variance)
    low, high = max(difference - reach, -1.0), min(difference + reach, 1.0)
    # Both tails of a normal distribution.
    p_value = math.erfc(abs(difference) / math.sqrt(2 * variance))
    return DeLong(*areas, difference, low, high, p_value)


# How many negatives each positive sample scores above, [m], and how many positives score above each
# negative one, [n]; a tie counts half. As counts DeLong's placement values are exact, so that a
# variance of 0 is found as 0.
Wins = tuple[np.ndarray, np.ndarray]


def _wins(scores: Tensor, target: Tensor) -> Wins | None:
    """The counts; None without both classes or with scores that are not finite."""
    if scores.ndim != 1 or scores.shape != target.shape:
        found = f"scores of shape {list(scores.shape)} for a target of shape {list(target.shape)}"
        raise UsageError(f"{found}: expected [N] of both, the scores of the positive class")
    values, true = scores.detach().double().cpu().numpy(), target.detach().cpu().numpy()
    positive = true == 1
    if not (positive | (true == 0)).all():
        other = true[~positive & (true != 0)][0]
        raise UsageError(f"a target of DeLong's test is 0 or 1, not {other}")
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n or not np.isfinite(values).all():
        return None
    above = rankdata(values)
    for members in (positive, ~positive):
        above[members] -= rankdata(values[members])
    return above[positive], m - above[~positive]


def _area(wins: Wins | None) -> float:
    if wins is None:
        return UNDEFINED
    return float(wins[0].sum()) / (len(wins[0]) * len(wins[1]))


def _variance(wins: Wins) -> float:
    """Of the area; NaN for classes of one sample."""
    m, n = map(len, wins)
    if min(m, n) < 2:
        return UNDEFINED
    return float(wins[0].var(ddof=1)) / n**2 / m + float(wins[1].var(ddof=1)) / m**2 / n


@dataclass(frozen=True)
class McNemar:
    """How many samples only the one or only the other model predicts correctly; p, two-sided."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar_test(right_a: Tensor, right_b: Tensor) -> McNemar:
    """Compare how often two models are right, bool [N], by the exact binomial test.

    McNemar 1947. Assumes independent samples. Models that are never right alone have p = 1.
    """
    if right_a.ndim != 1 or right_a.shape != right_b.shape:
        found = f"decisions of shape {list(right_a.shape)} and {list(right_b.shape)}"
        raise UsageError(f"{found}: expected [N], of the same samples")
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if not only_a + only_b:
        return McNemar(0, 0, 1.0)
    return McNemar(only_a, only_b, float(binomtest(only_a, only_a + only_b).pvalue))


def bootstrap_differences(
    outputs: Sequence[EpochOutputs],
    groups: Sequence[str],
    metrics: Sequence[str],
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[dict[str, Interval]]:
    """Differences of models' metrics from the first model's, with paired bootstrap intervals.

    As :func:`engine.statistics.bootstrap_intervals`, with all models measured on the same
    resamples. Resamples in which a metric is undefined for either model are left out. Returns for
    each model from the second on: metric -> its own minus the first model's. UsageError also if the
    models' samples or their order differ.

    There are no bounds (``too_few``) if either model's own interval would not be by bootstrap for
    want of groups, or all resamples agree; models with equal scores differ by 0 in all resamples.
    """
    first, *others = outputs
    for other in others:
        same = other.sample_id == first.sample_id and torch.equal(other.target, first.target)
        if other.task != first.task or not same:
            raise UsageError("models can only be compared on the same samples, in the same order")

    def measure(rows: Tensor | None = None) -> np.ndarray:  # [models - 1, metrics]
        found = np.array([[metric_value(n, model, rows) for n in metrics] for model in outputs])
        return found[1:] - found[0]

    whole, drawn = resampled(measure, first, groups, metrics, resamples, level, seed)
    if drawn is None:
        return [dict(zip(metrics, map(Interval, row.tolist()), strict=True)) for row in whole]
    found: list[dict[str, Interval]] = [{} for _ in others]
    for model, other in enumerate(others):
        for m, name in enumerate(metrics):
            interval = percentile_interval(float(whole[model, m]), drawn[:, model, m], level)
            found[model][name] = _difference(name, (first, other), groups, interval)
    return found


def _difference(
    metric: str, models: Sequence[EpochOutputs], groups: Sequence[str], drawn: Interval
) -> Interval:
    """The bootstrap interval, or ``too_few``."""
    if math.isnan(drawn.value):
        return drawn
    first, other = models
    if drawn.value == 0 and torch.equal(first.scores, other.scores):
        return replace(drawn, low=0.0, high=0.0, method=BOOTSTRAP)
    counts = [
        count
        for model in models
        for of in (groups_of_share, groups_of_rarest)
        if (count := of(metric, model, groups)) is not None
    ]
    return without_bounds(drawn) if min(counts, default=FEWEST_GROUPS) < FEWEST_GROUPS else drawn


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests (Holm 1979), also dependent ones.

    The smallest is multiplied by the number of tests, the next by one less, and so on; none falls
    below one before it. NaN is a test that was not possible, which does not count.
    """
    corrected = [UNDEFINED] * len(p_values)
    made = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    least = 0.0
    for rank, (p, place) in enumerate(made):
        least = max(least, min(1.0, p * (len(made) - rank)))
        corrected[place] = least
    return corrected

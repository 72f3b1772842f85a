"""Whether models differ over folds, or on pooled predictions of folds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from datasets.errors import UsageError
from engine.metrics import UNDEFINED, EpochOutputs, metric_value
from engine.statistics.bootstrap import Interval, group_resamples

CORRECTED_T = "corrected_t"
# Differences that are smaller are rounding.
AGREEMENT = 1e-12


def corrected_t_test(differences: Sequence[float], test_share: float) -> tuple[float, float]:
    """The corrected resampled t-test of differences between two models, two-sided.

    Training sets of folds overlap, so that the plain t-test finds too many differences. Nadeau and
    Bengio 2003, "Inference for the Generalization Error": the variance of the mean of J differences
    is (1/J + test_share) times their variance.

    Args:
        differences: Of a metric, one per fold; NaN are left out.
        test_share: Number of test samples divided by that of training samples.

    Returns:
        t and the p-value; NaN with fewer than two differences, or equal ones that are not 0.

    Raises:
        UsageError: ``test_share`` is not above 0.

    Example:
        >>> t, p = corrected_t_test([0.02, 0.01, 0.03, 0.02, 0.02], test_share=0.25)
        >>> round(t, 3), round(p, 3)
        (4.216, 0.014)
    """
    found, error = _corrected(differences, test_share)
    mean = float(found.mean()) if len(found) else UNDEFINED
    if not error > 0:  # no spread, or unknown
        return (0.0, 1.0) if error == 0 and abs(mean) <= AGREEMENT else (UNDEFINED, UNDEFINED)
    t = mean / error
    return t, float(2 * student.sf(abs(t), len(found) - 1))


def corrected_interval(values: Sequence[float], test_share: float, level: float = 0.95) -> Interval:
    """The mean of a metric over folds, with the interval of :func:`corrected_t_test`.

    It takes few groups where each is a fold, for which a bootstrap of groups is too narrow. Bounds
    may lie beyond those of the metric.

    Example:
        >>> found = corrected_interval([0.8, 0.9, 0.85, 0.95], test_share=0.25)
        >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
        (0.875, 0.73, 1.02)
    """
    found, error = _corrected(values, test_share)
    if not len(found):
        return Interval(UNDEFINED)
    mean = float(found.mean())
    if not error > 0:
        return Interval(mean)
    reach = float(student.ppf((1 + level) / 2, len(found) - 1)) * error
    return Interval(mean, mean - reach, mean + reach, method=CORRECTED_T)


def _corrected(values: Sequence[float], test_share: float) -> tuple[np.ndarray, float]:
    """The defined values and the standard error of their mean; NaN for fewer than two."""
    if not test_share > 0:
        raise UsageError(f"test_share is {test_share}: a share above 0 was expected")
    found = np.array([value for value in values if not math.isnan(value)])
    if len(found) < 2:
        return found, UNDEFINED
    if np.ptp(found) <= AGREEMENT * max(1.0, float(np.abs(found).max())):
        return found, 0.0
    return found, math.sqrt((1 / len(found) + test_share) * float(found.var(ddof=1)))


def bootstrap_p_values(
    outputs: Sequence[EpochOutputs],
    groups: Sequence[str],
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
) -> list[float]:
    """Two-sided p-values of the differences of a metric from the first model's, by the bootstrap.

    Twice the share of resamples of whole groups on the rarer side of 0, at least 2 / (1 + R): it is
    below 0.05 where the percentile interval leaves out 0. The same resamples as those of
    :func:`engine.statistics.bootstrap_differences`.

    Args:
        outputs: Of at least two models, for the same samples in the same order.
        groups: Of each sample.
        metric: Its name.
        resamples: How many, R.
        seed: Of the resamples.

    Returns:
        For each model from the second on; NaN where the metric is defined in no resample.
    """
    drawn = np.array(
        [
            [metric_value(metric, model, rows) for model in outputs]
            for rows in group_resamples(groups, resamples, seed)
        ]
    )
    return [_two_sided(drawn[:, place] - drawn[:, 0]) for place in range(1, len(outputs))]


def _two_sided(differences: np.ndarray) -> float:
    defined = differences[~np.isnan(differences)]
    if not len(defined):
        return UNDEFINED
    rarer = min((defined <= 0).sum(), (defined >= 0).sum())
    return min(1.0, 2 * (1 + float(rarer)) / (1 + len(defined)))

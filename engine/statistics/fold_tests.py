"""Whether models differ over folds, or on pooled predictions of folds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from datasets.errors import UsageError
from engine.metrics import UNDEFINED, EpochOutputs, metric_value
from engine.statistics.bootstrap import group_resamples


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
    if not test_share > 0:
        raise UsageError(f"test_share is {test_share}: a share above 0 was expected")
    found = np.array([d for d in differences if not math.isnan(d)])
    if len(found) < 2:
        return UNDEFINED, UNDEFINED
    mean, variance = float(found.mean()), float(found.var(ddof=1))
    if np.ptp(found) <= 1e-12 * max(1.0, float(np.abs(found).max())):
        return (0.0, 1.0) if abs(mean) <= 1e-12 else (UNDEFINED, UNDEFINED)
    t = mean / math.sqrt((1 / len(found) + test_share) * variance)
    return t, float(2 * student.sf(abs(t), len(found) - 1))


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

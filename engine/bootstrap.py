"""How far a metric would move had other groups been sampled: bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.errors import UsageError, check_whole
from engine.metric_functions import UNDEFINED, find_metric
from engine.metrics import EpochOutputs
from engine.tasks import check_metrics


@dataclass(frozen=True)
class Interval:
    """A figure and how far it may be off.

    Attributes:
        value: Of all samples.
        low: The lower bound, NaN where none can be given.
        high: The upper bound, likewise.
        resamples: Those in which the figure is defined; 0 where none were drawn.
    """

    value: float
    low: float = UNDEFINED
    high: float = UNDEFINED
    resamples: int = 0


def bootstrap_intervals(
    outputs: EpochOutputs,
    groups: Sequence[str],
    metrics: Sequence[str],
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of metrics, with whole groups drawn.

    Efron 1979, "Bootstrap Methods: Another Look at the Jackknife". The samples of one patient or
    plate resemble each other, so that drawing them one by one would promise too much: a resample
    is as many groups as there are, drawn with replacement, each with all its samples (Field and
    Welsh 2007, "Bootstrapping Clustered Data"). All metrics see the same resamples.

    A resample in which a metric is undefined (a ranking without one of the classes) is left out.
    Bounds are NaN where fewer than half are defined, or with a single group. Metrics follow their
    own conventions: precision, recall and F1 are 0 in a resample without any positive.

    Args:
        outputs: N samples' logits and targets.
        groups: The group of each sample, [N].
        metrics: Names as :class:`engine.metrics.EpochMetrics` takes them.
        resamples: How many to draw.
        level: The share of resamples between the bounds.
        seed: Of a random stream of its own.

    Returns:
        Metric -> its interval, in the order of ``metrics``.

    Raises:
        UsageError: A metric does not fit; there is not one group a sample; a number is out of
            range, ``resamples`` among them where they are too few for one to lie in each tail.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 2.0], [1.0, 0.0]])
        >>> outputs = EpochOutputs(logits, torch.tensor([0, 1, 1, 1]), list("abcd"), {})
        >>> bootstrap_intervals(outputs, ["p1", "p2", "p3", "p3"], ["accuracy"])["accuracy"]
        Interval(value=0.75, low=0.5, high=1.0, resamples=1000)
    """
    check_metrics(tuple(metrics), outputs.task)
    check_level(level)
    # Rounded because 1 - 0.9 is a little less than 0.1.
    check_whole("resamples", resamples, at_least=math.ceil(round(2 / (1 - level), 6)))
    check_whole("seed", seed, at_least=0)
    scores, target = outputs.scores, outputs.target
    if len(groups) != len(target):
        raise UsageError(f"{len(groups)} groups for {len(target)} samples: expected one a sample")
    if not torch.isfinite(scores).all():
        return {name: Interval(UNDEFINED) for name in metrics}
    whole = {name: find_metric(name)(scores, target) for name in metrics}
    names, group_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return {name: Interval(value) for name, value in whole.items()}
    rng = np.random.default_rng(seed)
    found = {name: np.empty(resamples) for name in whole}
    compute = {name: find_metric(name) for name in whole}
    # One resample at a time: all at once would hold resamples x groups numbers.
    for number in range(resamples):
        drawn = rng.integers(len(names), size=len(names))
        times = np.bincount(drawn, minlength=len(names))
        rows = torch.from_numpy(np.repeat(np.arange(len(group_of)), times[group_of]))
        drawn_scores, drawn_target = scores[rows], target[rows]
        for name, values in found.items():
            values[number] = compute[name](drawn_scores, drawn_target)
    return {name: _interval(whole[name], values, level) for name, values in found.items()}


def check_level(level: float) -> None:
    """Refuse a level of confidence that no interval can have.

    Args:
        level: A share.

    Raises:
        UsageError: It is not between 0 and 1.

    Example:
        >>> check_level(0.95)
    """
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise UsageError(f"level must be a share between 0 and 1, such as 0.95, not {level!r}")


def _interval(value: float, of_resamples: np.ndarray, level: float) -> Interval:
    defined = of_resamples[~np.isnan(of_resamples)]
    if 2 * len(defined) < len(of_resamples):
        return Interval(value, resamples=len(defined))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(defined))

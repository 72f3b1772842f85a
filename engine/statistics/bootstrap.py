"""Bootstrap intervals over groups, and intervals for few samples."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import beta
from torch import Tensor

from datasets.errors import UsageError
from datasets.specs import require_range, require_whole
from engine.metrics import CLASSES, UNDEFINED, EpochOutputs, check_metrics, likeliest, metric_value

# With fewer groups a percentile bootstrap's intervals are too narrow.
FEWEST_GROUPS = 10
# Relative difference below which all resamples agree.
AGREEMENT = 1e-6
# Of two classes: the samples in the denominator of a proportion.
PROPORTIONS: dict[str, Callable[[EpochOutputs], Tensor]] = {
    "precision": lambda outputs: likeliest(outputs.scores) == 1,
    "recall": lambda outputs: outputs.target == 1,
    "recall_at_fpr": lambda outputs: outputs.target == 1,
    "specificity_at_sensitivity": lambda outputs: outputs.target == 0,
}
# Metrics that depend on the rarest class (or label).
OF_EACH_CLASS = ("auroc", "auprc", "f1", "mcc", "balanced_accuracy", *PROPORTIONS)


def proportion_bounds(share: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's (1934) interval of a proportion of ``count`` independent samples."""
    hits, tail = share * count, (1 - level) / 2
    low = float(beta.ppf(tail, hits, count - hits + 1)) if share > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, count - hits)) if share < 1 else 1.0
    return low, high


def groups_of_share(metric: str, outputs: EpochOutputs, groups: Sequence[str]) -> int | None:
    """The number of groups in the denominator of a proportion; None for other metrics."""
    name = metric.partition("@")[0]
    if name == "accuracy" and outputs.task != "regression":
        return _count(groups, torch.ones(len(groups), dtype=torch.bool))
    if outputs.task != "binary" or name not in PROPORTIONS:
        return None
    return _count(groups, PROPORTIONS[name](outputs))


def groups_of_rarest(metric: str, outputs: EpochOutputs, groups: Sequence[str]) -> int | None:
    """The number of groups with the rarest class; None if the metric does not depend on each.

    Of labels the rarest is what fewest groups have, or fewest lack.
    """
    if metric.partition("@")[0] not in OF_EACH_CLASS or outputs.task == "regression":
        return None
    target = outputs.target
    if outputs.task in CLASSES:
        members = [target == number for number in range(outputs.logits.shape[1])]
    else:
        members = [members for label in (target > 0).T for members in (label, ~label)]
    return min(_count(groups, of) for of in members)


def _count(groups: Sequence[str], of: Tensor) -> int:
    return len({str(groups[row]) for row in of.nonzero()[:, 0].tolist()})


# Methods of an interval, and the reason for none.
BOOTSTRAP, CLOPPER_PEARSON, TOO_FEW = "bootstrap", "clopper_pearson", "too_few"


@dataclass(frozen=True)
class Interval:
    """A value and its interval; NaN where undefined.

    ``resamples`` are those in which the value is defined. ``method`` is ``bootstrap`` or
    ``clopper_pearson``, ``too_few`` if the samples are too few for bounds, empty if none were
    requested or the value is undefined.
    """

    value: float
    low: float = UNDEFINED
    high: float = UNDEFINED
    resamples: int = 0
    method: str = ""

    @property
    def too_few(self) -> bool:
        """Whether the samples are too few for bounds."""
        return self.method == TOO_FEW


def bootstrap_intervals(
    outputs: EpochOutputs,
    groups: Sequence[str],
    metrics: Sequence[str],
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of metrics, with whole groups drawn.

    Efron 1979; Field and Welsh 2007, "Bootstrapping Clustered Data": a resample is as many groups
    as there are, drawn with replacement, each with all its samples, because samples of one patient
    or plate are not independent. All metrics see the same resamples; those in which a metric is
    undefined are left out. Bounds are NaN with a single group.

    With few groups, or identical resamples, the bootstrap is too narrow. A proportion (accuracy; of
    two classes also precision, recall, and those at a demand) of fewer than 10 groups, or with
    identical resamples, gets Clopper and Pearson's interval with each group as one sample. Other
    metrics have no bounds (``too_few``) if all resamples agree or fewer than half are defined, nor
    those that depend on each class if fewer than 10 groups have one of them.

    UsageError for a metric that does not fit, not one group per sample, or a number out of range.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 2.0], [1.0, 0.0]])
        >>> outputs = EpochOutputs(logits, torch.tensor([0, 1, 1, 1]), list("abcd"), {})
        >>> bootstrap_intervals(outputs, ["p1", "p2", "p3", "p3"], ["accuracy"])["accuracy"]
        Interval(value=0.75, low=0.13..., high=0.99..., resamples=1000, method='clopper_pearson')
    """

    def measure(rows: Tensor | None = None) -> np.ndarray:  # [metrics]
        return np.array([metric_value(name, outputs, rows) for name in metrics])

    whole, drawn = resampled(measure, outputs, groups, metrics, resamples, level, seed)
    if drawn is None:
        return dict(zip(metrics, map(Interval, whole.tolist()), strict=True))
    found = {}
    for number, name in enumerate(metrics):
        by_bootstrap = percentile_interval(float(whole[number]), drawn[:, number], level)
        found[name] = _interval(name, outputs, groups, by_bootstrap, level)
    return found


def resampled(
    measure: Callable[..., np.ndarray],
    outputs: EpochOutputs,
    groups: Sequence[str],
    metrics: Sequence[str],
    resamples: int,
    level: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """What ``measure`` gives for all samples, and for each resample; None for a single group."""
    own = tuple(name for name in metrics if name not in outputs.custom)
    check_metrics(own, outputs.task, outputs.targets)
    require_range("level", level, 0, 1, open_low=True)
    if len(groups) != len(outputs.target):
        counts = f"{len(groups)} groups for {len(outputs.target)} samples"
        raise UsageError(f"{counts}: expected one a sample")
    resamples = require_whole("resamples", resamples, fewest_resamples(level))
    seed = require_whole("seed", seed)
    if len(set(map(str, groups))) < 2:
        return measure(), None
    drawn = [measure(rows) for rows in group_resamples(groups, resamples, seed)]
    return measure(), np.stack(drawn)


def _interval(
    metric: str, outputs: EpochOutputs, groups: Sequence[str], drawn: Interval, level: float
) -> Interval:
    """The bootstrap interval, or its replacement for few groups."""
    if math.isnan(drawn.value):
        return drawn
    in_share = groups_of_share(metric, outputs, groups)
    if in_share is not None:
        if in_share >= FEWEST_GROUPS and drawn.method == BOOTSTRAP:
            return drawn
        low, high = proportion_bounds(drawn.value, in_share, level)
        return replace(drawn, low=low, high=high, method=CLOPPER_PEARSON)
    in_rarest = groups_of_rarest(metric, outputs, groups)
    if in_rarest is not None and in_rarest < FEWEST_GROUPS:
        return without_bounds(drawn)
    return drawn


def without_bounds(drawn: Interval) -> Interval:
    """The value with ``too_few``."""
    return replace(drawn, low=UNDEFINED, high=UNDEFINED, method=TOO_FEW)


def group_resamples(groups: Sequence[str], resamples: int, seed: int) -> Iterator[Tensor]:
    """Draw as many groups as there are, with replacement, each with all its samples.

    Equal groups and seeds give equal resamples: ascending row numbers, each as often as its group
    was drawn. One at a time: all at once would take resamples x groups numbers.
    """
    names, group_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = rng.integers(len(names), size=len(names))
        times = np.bincount(drawn, minlength=len(names))
        yield torch.from_numpy(np.repeat(np.arange(len(group_of)), times[group_of]))


def fewest_resamples(level: float) -> int:
    """How many resamples it takes for one of them to lie beyond each bound."""
    # Rounded because 1 - 0.9 is a little less than 0.1.
    return math.ceil(round(2 / (1 - level), 6))


def percentile_interval(value: float, of_resamples: np.ndarray, level: float) -> Interval:
    """The interval between two quantiles of the values of the resamples, [R], NaN if undefined.

    It is ``too_few`` if fewer than half are defined or all agree.
    """
    defined = of_resamples[~np.isnan(of_resamples)]
    if math.isnan(value):
        return Interval(value, resamples=len(defined))
    enough = 2 * len(defined) >= len(of_resamples)
    if not enough or np.ptp(defined) <= AGREEMENT * np.abs(defined).max():
        return without_bounds(Interval(value, resamples=len(defined)))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(defined), BOOTSTRAP)

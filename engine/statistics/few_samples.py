"""What intervals can be given where samples are few, or where all resamples agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import beta

from engine.metrics import CLASSES, EpochOutputs, likeliest

# A percentile bootstrap takes about so many groups: with fewer its intervals are too narrow.
FEWEST_GROUPS = 10
# Resamples whose figures differ by less than this share of them all agree.
AGREEMENT = 1e-6
# Of two classes: the share of which samples a metric is.
OF_POSITIVES, OF_NEGATIVES, OF_CALLED = "positives", "negatives", "called"
PROPORTIONS = {
    "precision": OF_CALLED,
    "recall": OF_POSITIVES,
    "recall_at_fpr": OF_POSITIVES,
    "specificity_at_sensitivity": OF_NEGATIVES,
}
# Metrics that rest on the rarest class (or label), however many samples there are.
OF_EACH_CLASS = ("auroc", "auprc", "f1", "mcc", "balanced_accuracy", *PROPORTIONS)


def proportion_bounds(share: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """The interval of a proportion by Clopper and Pearson, which has a width at 0 and 1, too.

    Clopper and Pearson 1934, "The Use of Confidence or Fiducial Limits Illustrated in the Case of
    the Binomial": it covers the true proportion at least as often as it promises. Where samples
    come in groups, ``count`` is the number of groups, as if the samples of a group told the same.

    Args:
        share: From 0 to 1.
        count: How many independent samples it is of.
        level: Of confidence.

    Example:
        >>> [round(bound, 3) for bound in proportion_bounds(1.0, 8)]
        [0.631, 1.0]
    """
    hits, tail = share * count, (1 - level) / 2
    low = float(beta.ppf(tail, hits, count - hits + 1)) if share > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, count - hits)) if share < 1 else 1.0
    return low, high


def groups_of_share(metric: str, outputs: EpochOutputs, groups: Sequence[str]) -> int | None:
    """How many groups a proportion is of; None of a metric that is no proportion.

    Args:
        metric: Its name, with ``@`` and a demand where it takes one.
        outputs: Of N samples.
        groups: The group of each sample, [N].

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
        >>> outputs = EpochOutputs(logits, torch.tensor([0, 1, 1]), list("abc"), {})
        >>> groups_of_share("recall", outputs, ["p1", "p2", "p2"])
        1
        >>> groups_of_share("auroc", outputs, ["p1", "p2", "p2"]) is None
        True
    """
    name = metric.partition("@")[0]
    if name == "accuracy" and outputs.task != "regression":
        return _count(groups, torch.ones(len(groups), dtype=torch.bool))
    if outputs.task != "binary" or name not in PROPORTIONS:
        return None
    of = {
        OF_POSITIVES: outputs.target == 1,
        OF_NEGATIVES: outputs.target == 0,
        OF_CALLED: likeliest(outputs.scores) == 1,
    }
    return _count(groups, of[PROPORTIONS[name]])


def groups_of_rarest(metric: str, outputs: EpochOutputs, groups: Sequence[str]) -> int | None:
    """How many groups hold the rarest class; None of a metric that does not rest on each class.

    Of labels the rarest is what fewest groups have, or fewest lack.

    Args:
        metric: Its name, with ``@`` and a demand where it takes one.
        outputs: Of N samples.
        groups: The group of each sample, [N].

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
        >>> outputs = EpochOutputs(logits, torch.tensor([0, 1, 1]), list("abc"), {})
        >>> groups_of_rarest("auroc", outputs, ["p1", "p2", "p3"])
        1
    """
    if metric.partition("@")[0] not in OF_EACH_CLASS or outputs.task == "regression":
        return None
    target = outputs.target
    if outputs.task in CLASSES:
        members = [target == number for number in range(outputs.logits.shape[1])]
    else:
        members = [side for label in (target > 0).T for side in (label, ~label)]
    return min(_count(groups, of) for of in members)


def all_agree(values: np.ndarray) -> bool:
    """Whether the figures of all resamples are the same, but for rounding.

    Args:
        values: At least one, none NaN.

    Example:
        >>> all_agree(np.array([1.0, 1.0])), all_agree(np.array([0.9, 1.0]))
        (True, False)
    """
    return bool(np.ptp(values) <= AGREEMENT * np.abs(values).max())


def _count(groups: Sequence[str], of: torch.Tensor) -> int:
    return len({str(groups[row]) for row in of.nonzero()[:, 0].tolist()})

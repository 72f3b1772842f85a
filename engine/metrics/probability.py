"""How good the probabilities are as probabilities, whatever is decided by them."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import torch
from torch import Tensor
from torchmetrics.functional import classification as tm

# Of the calibration error, over confidences from 0 to 1 (Guo et al. 2017 use 15).
BINS = 15


def _over_labels(of_label: Callable[[Tensor, Tensor], float]) -> Callable[[Tensor, Tensor], float]:
    """The mean over the labels [N, T]; a single label is two classes."""

    def metric(scores: Tensor, target: Tensor) -> float:
        if target.ndim == 1:
            return of_label(scores, target)
        return fmean(
            of_label(
                torch.stack([1 - scores[:, t], scores[:, t]], dim=1), (target[:, t] > 0).long()
            )
            for t in range(target.shape[1])
        )

    return metric


@_over_labels
def brier(scores: Tensor, target: Tensor) -> float:
    """Mean squared distance of the probabilities [N, C] from what was the case [N] (Brier 1950).

    Of two classes that of the positive one's probability; of more the sum over the classes.
    """
    missed = scores - torch.nn.functional.one_hot(target, scores.shape[1])
    share = 0.5 if scores.shape[1] == 2 else 1.0
    return float(share * missed.square().sum(dim=1).mean())


@_over_labels
def log_loss(scores: Tensor, target: Tensor) -> float:
    """Mean of ``-log`` of the true class's probability, in nats.

    A probability of zero counts as the smallest step above it, as in scikit-learn.
    """
    least = torch.finfo(scores.dtype).eps
    true = scores.gather(1, target[:, None]).clamp(least, 1 - least)
    return float(-true.log().mean())


@_over_labels
def expected_calibration_error(scores: Tensor, target: Tensor) -> float:
    """By how much confidence and share of hits differ, over 15 equal bins of confidence.

    The bins' mean, weighted by their samples (Guo et al. 2017, "On Calibration of Modern Neural
    Networks"). Of two classes the positive one's probability is binned against how often it was
    the case; of more, that of the likeliest class against how often it was right.
    """
    # A confidence of 1 belongs to the last bin: torchmetrics would give it one of its own.
    scores = scores.clamp(max=1 - torch.finfo(scores.dtype).eps)
    if scores.shape[1] == 2:
        return float(
            tm.binary_calibration_error(
                scores[:, 1].contiguous(), target, BINS, "l1", validate_args=False
            )
        )
    return float(
        tm.multiclass_calibration_error(
            scores, target, scores.shape[1], BINS, "l1", validate_args=False
        )
    )

"""Metrics as a user may write them, found by their dotted paths."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import BinaryFBetaScore


def net_benefit(scores: Tensor, target: Tensor, threshold: float = 0.5) -> float:
    """Vickers and Elkin 2006."""
    called, positive = scores[:, 1] >= threshold, target == 1
    odds = threshold / (1 - threshold)
    benefit = (called & positive).sum() - odds * (called & ~positive).sum()
    return float(benefit / len(target))


def beta_score(beta: float = 2.0) -> BinaryFBetaScore:
    """Makes a torchmetrics object."""
    return BinaryFBetaScore(beta)


class PositiveShare(Metric):
    """Of the samples that are predicted positive."""

    total: Tensor
    count: Tensor

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = threshold
        self.add_state("total", torch.tensor(0.0))
        self.add_state("count", torch.tensor(0))

    def update(self, scores: Tensor, target: Tensor) -> None:
        """Count a batch."""
        self.total += (scores[:, 1] >= self.threshold).sum()
        self.count += len(target)

    def compute(self) -> Tensor:
        """The share."""
        return self.total / self.count


def no_number(scores: Tensor, target: Tensor) -> Tensor:
    """Returns one value per sample."""
    return scores[:, 1]


def needs_three_classes(scores: Tensor, target: Tensor) -> float:
    """Reads a column that two classes do not have."""
    return float(scores[:, 2].mean())


NOT_CALLABLE = 3

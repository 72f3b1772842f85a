"""Losses of classes and of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from datasets.errors import UsageError
from engine.losses.inputs import check_same_shape, find_output, require_range, weights_or_none
from models.tft_loss import SMALLEST, cross_entropy, weighs, weight_sum


class CrossEntropy(nn.Module):
    """Cross-entropy of ``outputs["logits"]`` [B, C] against class numbers [B].

    Args:
        label_smoothing: Share of the target spread evenly over the classes, 0 to below 1
            (Szegedy et al. 2016, "Rethinking the Inception Architecture").
        class_weights: One factor a class, or None for equal weights.

    Raises:
        ValueError: A parameter is out of its range.

    Example:
        >>> loss = CrossEntropy()
        >>> terms = loss({"logits": torch.tensor([[0.0, 0.0]])}, torch.tensor([1]))
        >>> round(float(terms["total_loss"]), 4)
        0.6931
    """

    class_weights: Tensor | None

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        require_range("label_smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing
        weights = weights_or_none("class_weights", class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(
        self, outputs: Mapping[str, Any], targets: Tensor, aux: Any = None
    ) -> dict[str, Tensor]:
        """The loss as ``total_loss``, a scalar."""
        logits = find_output(outputs, "logits")
        total = cross_entropy(logits, targets, self.class_weights, self.label_smoothing)
        return {"total_loss": total}

    @property
    def weighted(self) -> bool:
        """Whether the mean is divided by a sum of class weights."""
        return self.class_weights is not None

    def denominators(self, targets: Tensor, aux: Any = None) -> dict[str, Tensor]:
        """The sum of the samples' class weights, by which ``total_loss`` is divided."""
        if self.class_weights is None or not weighs(self.class_weights, targets):
            return {}
        return {"total_loss": weight_sum(targets, self.class_weights)}


class FocalLoss(nn.Module):
    """Cross-entropy that turns away from what is easy: ``-alpha (1 - p)^gamma log p``.

    p is the probability of what is true: of the class by softmax where targets are class numbers
    [B], of each label's being there or not by sigmoid where they are labels [B, T]. The mean over
    the samples (and labels) is taken, whatever the alphas sum to. Lin et al. 2017, "Focal Loss for
    Dense Object Detection".

    Args:
        gamma: How much the easy ones are passed over; 0 gives the cross-entropy.
        alpha: Of classes one factor each, or for two classes that of class 1, which leaves
            ``1 - alpha`` to class 0. Of labels the factor where the label is there, one for each
            label or one for all, which leaves ``1 - alpha`` where it is not. None for 1 throughout.

    Raises:
        ValueError: A parameter is out of its range.

    Example:
        >>> loss = FocalLoss(gamma=2.0)
        >>> terms = loss({"logits": torch.tensor([[0.0, 0.0]])}, torch.tensor([1]))
        >>> round(float(terms["total_loss"]), 4)  # (1/2)^2 log 2
        0.1733
    """

    alpha: Tensor | None

    def __init__(self, gamma: float = 2.0, alpha: Sequence[float] | float | None = None) -> None:
        super().__init__()
        require_range("gamma", gamma, 0, float("inf"))
        if isinstance(alpha, (int, float)):
            require_range("alpha", alpha, 0, 1, open_low=True)
        self.gamma = gamma
        self.register_buffer("alpha", weights_or_none("alpha", alpha), persistent=False)

    def forward(
        self, outputs: Mapping[str, Any], targets: Tensor, aux: Any = None
    ) -> dict[str, Tensor]:
        """The loss as ``total_loss``, a scalar.

        Raises:
            UsageError: There is not one alpha for each class.
        """
        logits = find_output(outputs, "logits").float()
        if targets.is_floating_point():
            check_same_shape(logits, targets)
            surprise = functional.binary_cross_entropy_with_logits(
                logits, targets, reduction="none"
            )
            factor = self._of_labels(targets)
        else:
            surprise = functional.cross_entropy(logits, targets, reduction="none")
            factor = self._of_classes(targets, logits.shape[1])
        # 1 - p, exact also where p is nearly 1; above 0, where its power has a finite slope.
        missing = (-torch.expm1(-surprise)).clamp_min(SMALLEST)
        focal = missing.pow(self.gamma) * surprise
        return {"total_loss": (focal if factor is None else factor * focal).mean()}

    def _of_labels(self, targets: Tensor) -> Tensor | None:
        if self.alpha is None:
            return None
        return self.alpha * targets + (1 - self.alpha) * (1 - targets)

    def _of_classes(self, targets: Tensor, classes: int) -> Tensor | None:
        alpha = self.alpha
        if alpha is None:
            return None
        if alpha.ndim == 0 and classes == 2:
            return torch.where(targets == 1, alpha, 1 - alpha)
        if alpha.shape != (classes,):
            raise UsageError(f"focal: alpha must be one number a class, there are {classes}")
        return alpha[targets]


class BinaryCrossEntropy(nn.Module):
    """Cross-entropy of each label by itself: ``outputs["logits"]`` [B, T] against 0 or 1, [B, T].

    Args:
        pos_weight: Factor of the samples where a label is there: one for each label or one for
            all; None for 1.

    Raises:
        ValueError: ``pos_weight`` is out of its range.

    Example:
        >>> loss = BinaryCrossEntropy()
        >>> terms = loss({"logits": torch.zeros(1, 3)}, torch.tensor([[1.0, 0.0, 1.0]]))
        >>> round(float(terms["total_loss"]), 4)
        0.6931
    """

    pos_weight: Tensor | None

    def __init__(self, pos_weight: Sequence[float] | float | None = None) -> None:
        super().__init__()
        weights = weights_or_none("pos_weight", pos_weight)
        self.register_buffer("pos_weight", weights, persistent=False)

    def forward(
        self, outputs: Mapping[str, Any], targets: Tensor, aux: Any = None
    ) -> dict[str, Tensor]:
        """The loss as ``total_loss``, a scalar.

        Raises:
            UsageError: There is not a logit for each label.
        """
        logits = find_output(outputs, "logits").float()
        check_same_shape(logits, targets)
        return {
            "total_loss": functional.binary_cross_entropy_with_logits(
                logits, targets.float(), pos_weight=self.pos_weight
            )
        }

"""Losses: each takes a model's outputs and the targets, and returns named terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.tft_models import TFTLoss


class CrossEntropy(nn.Module):
    """Cross-entropy of ``outputs["logits"]`` [B, C] against class numbers [B].

    Args:
        label_smoothing: Share of the target spread evenly over the classes, 0 to below 1
            (Szegedy et al. 2016, "Rethinking the Inception Architecture").
        class_weights: One factor a class, or None for equal weights.

    Example:
        >>> loss = CrossEntropy()
        >>> terms = loss({"logits": torch.tensor([[0.0, 0.0]])}, torch.tensor([1]))
        >>> round(float(terms["total_loss"]), 4)
        0.6931
    """

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), not {label_smoothing}")
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(
        self, outputs: Mapping[str, Any], targets: Tensor, aux: Any = None
    ) -> dict[str, Tensor]:
        """The loss as ``total_loss``, a scalar."""
        weights = self.class_weights
        return {
            "total_loss": functional.cross_entropy(
                outputs["logits"].float(),
                targets,
                weight=weights if isinstance(weights, Tensor) else None,
                label_smoothing=self.label_smoothing,
            )
        }


LOSSES: dict[str, Any] = {"cross_entropy": CrossEntropy, "tft": TFTLoss}


def choose_loss(model: nn.Module, configured: nn.Module) -> Any:
    """The model's own ``compute_loss`` where it brings one, else the configured loss."""
    return getattr(model, "compute_loss", configured)


def balanced_class_weights(targets: Tensor, num_classes: int) -> list[float]:
    """Weights that give every class the same say: N / (C * N_class).

    King and Zeng 2001, "Logistic Regression in Rare Events Data"; scikit-learn's ``balanced``.

    Args:
        targets: Class numbers of the training part, [N].
        num_classes: C.

    Example:
        >>> balanced_class_weights(torch.tensor([0, 0, 0, 1]), 2)
        [0.6666666666666666, 2.0]
    """
    counts = torch.bincount(targets, minlength=num_classes)
    return [len(targets) / (num_classes * max(int(count), 1)) for count in counts]

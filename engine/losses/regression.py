"""Losses of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from engine.losses.inputs import check_same_shape, find_output, require_range


class MeanSquaredError(nn.Module):
    """Mean of the squared errors of ``outputs["logits"]`` [B, T] against values [B, T].

    Example:
        >>> import torch
        >>> loss = MeanSquaredError()
        >>> loss({"logits": torch.tensor([[1.0]])}, torch.tensor([[3.0]]))["total_loss"].item()
        4.0
    """

    def forward(
        self, outputs: Mapping[str, Any], targets: Tensor, aux: Any = None
    ) -> dict[str, Tensor]:
        """The loss as ``total_loss``, a scalar.

        Raises:
            UsageError: There is not a value for each target.
        """
        values = find_output(outputs, "logits").float()
        check_same_shape(values, targets)
        return {"total_loss": functional.mse_loss(values, targets.float())}


class HuberLoss(nn.Module):
    """Half the squared error where it is small, growing straight on beyond.

    Huber 1964, "Robust Estimation of a Location Parameter".

    Args:
        delta: The error, in standard deviations where targets are standardised, from which on it
            no longer counts squared; above 0.

    Raises:
        ValueError: ``delta`` is not above 0.

    Example:
        >>> import torch
        >>> loss = HuberLoss(delta=1.0)
        >>> loss({"logits": torch.tensor([[0.0]])}, torch.tensor([[3.0]]))["total_loss"].item()
        2.5
    """

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        require_range("delta", delta, 0, float("inf"), open_low=True)
        self.delta = delta

    def forward(
        self, outputs: Mapping[str, Any], targets: Tensor, aux: Any = None
    ) -> dict[str, Tensor]:
        """The loss as ``total_loss``, a scalar.

        Raises:
            UsageError: There is not a value for each target.
        """
        values = find_output(outputs, "logits").float()
        check_same_shape(values, targets)
        return {"total_loss": functional.huber_loss(values, targets.float(), delta=self.delta)}

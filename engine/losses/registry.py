"""The losses by name, and the tasks that they fit."""

from __future__ import annotations

from typing import Any

from torch import nn

from engine.losses.contrastive import ModalityContrastive, SupervisedContrastive
from engine.losses.per_sample import (
    BinaryCrossEntropy,
    CrossEntropy,
    FocalLoss,
    HuberLoss,
    MeanSquaredError,
    NegativeEntropy,
    OutputNorm,
)
from engine.losses.weighted import WeightedLoss
from engine.metrics import CLASSES, TASKS
from models.tft_loss import TFTLoss

LOSSES: dict[str, Any] = {
    "cross_entropy": CrossEntropy,
    "tft": TFTLoss,
    "focal": FocalLoss,
    "bce": BinaryCrossEntropy,
    "mse": MeanSquaredError,
    "huber": HuberLoss,
    "supcon": SupervisedContrastive,
    "info_nce": ModalityContrastive,
    "entropy": NegativeEntropy,
    "l2": OutputNorm,
    "weighted": WeightedLoss,
}

# The tasks that each loss fits.
FITTING: dict[str, tuple[str, ...]] = {
    "cross_entropy": CLASSES,
    "tft": CLASSES,
    "focal": (*CLASSES, "multilabel"),
    "bce": ("multilabel",),
    "mse": ("regression",),
    "huber": ("regression",),
    "supcon": CLASSES,
    "info_nce": tuple(TASKS),
    "entropy": (*CLASSES, "multilabel"),
    "l2": tuple(TASKS),
    "weighted": tuple(TASKS),
}


def choose_loss(model: nn.Module, configured: nn.Module) -> Any:
    """The model's own ``compute_loss`` if it has one, else the configured loss."""
    return getattr(model, "compute_loss", configured)

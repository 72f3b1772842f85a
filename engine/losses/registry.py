"""The losses by name, and the tasks that they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.metrics import CLASSES, TASKS

if TYPE_CHECKING:
    from torch import nn

# Dotted paths, imported where one is built.
LOSSES = {
    "cross_entropy": "engine.losses.per_sample.CrossEntropy",
    "tft": "models.tft_loss.TFTLoss",
    "focal": "engine.losses.per_sample.FocalLoss",
    "bce": "engine.losses.per_sample.BinaryCrossEntropy",
    "mse": "engine.losses.per_sample.MeanSquaredError",
    "huber": "engine.losses.per_sample.HuberLoss",
    "supcon": "engine.losses.contrastive.SupervisedContrastive",
    "info_nce": "engine.losses.contrastive.ModalityContrastive",
    "entropy": "engine.losses.per_sample.NegativeEntropy",
    "l2": "engine.losses.per_sample.OutputNorm",
    "weighted": "engine.losses.weighted.WeightedLoss",
}

# The tasks that each loss fits.
FITTING: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("cross_entropy", "tft", "supcon"), CLASSES),
    "focal": (*CLASSES, "multilabel"),
    "bce": ("multilabel",),
    **dict.fromkeys(("mse", "huber"), ("regression",)),
    "entropy": (*CLASSES, "multilabel"),
    **dict.fromkeys(("info_nce", "l2", "weighted"), tuple(TASKS)),
}


def choose_loss(model: nn.Module, configured: nn.Module) -> Any:
    """The model's own ``compute_loss`` if it has one, else the configured loss."""
    return getattr(model, "compute_loss", configured)

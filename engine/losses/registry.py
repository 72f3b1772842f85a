"""The losses by name: each takes a model's outputs and the targets, and returns named terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.metrics import CLASSES, TASKS

if TYPE_CHECKING:
    from torch import nn

# Dotted paths, imported where one is built.
LOSSES = {
    "cross_entropy": "engine.losses.classification.CrossEntropy",
    "tft": "models.tft_loss.TFTLoss",
    "focal": "engine.losses.classification.FocalLoss",
    "bce": "engine.losses.classification.BinaryCrossEntropy",
    "mse": "engine.losses.regression.MeanSquaredError",
    "huber": "engine.losses.regression.HuberLoss",
    "supcon": "engine.losses.contrastive.SupervisedContrastive",
    "info_nce": "engine.losses.contrastive.ModalityContrastive",
    "entropy": "engine.losses.regularisers.NegativeEntropy",
    "l2": "engine.losses.regularisers.OutputNorm",
    "weighted": "engine.losses.weighted.WeightedLoss",
}

# The tasks that each can be of use in; others' targets it would misread.
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
    """The model's own ``compute_loss`` where it brings one, else the configured loss."""
    return getattr(model, "compute_loss", configured)

"""The losses by name, the tasks they fit, and balanced class weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

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

BALANCED = "balanced"


def balanced_class_weights(targets: Tensor, num_classes: int) -> list[float]:
    """N / (C * N_class), scikit-learn's ``balanced``; defined for classes without samples, too.

    Args:
        targets: Class numbers of the training set, [N].
        num_classes: C.

    Example:
        >>> balanced_class_weights(torch.tensor([0, 0, 0, 1]), 2)
        [0.6666666666666666, 2.0]
    """
    counts = torch.bincount(targets, minlength=num_classes)
    return [len(targets) / (num_classes * max(int(count), 1)) for count in counts]


def balanced_pos_weight(targets: Tensor) -> list[float]:
    """N_without / N_with of each label.

    Args:
        targets: Labels (0 or 1) of the training set, [N, T].

    Example:
        >>> balanced_pos_weight(torch.tensor([[1.0], [0.0], [0.0], [0.0]]))
        [3.0]
    """
    there = targets.double().sum(dim=0)
    return [(len(targets) - count) / max(count, 1.0) for count in there.tolist()]


def balanced_alpha(targets: Tensor, num_classes: int) -> list[float]:
    """The focal loss's alphas: of classes their balanced weights, of labels 1 - prevalence.

    Args:
        targets: Class numbers [N] or labels [N, T] of the training set.
        num_classes: C.

    Example:
        >>> balanced_alpha(torch.tensor([[1.0], [0.0], [0.0], [0.0]]), 1)
        [0.75]
    """
    if targets.ndim == 1:
        return balanced_class_weights(targets, num_classes)
    share: list[float] = (1 - targets.double().mean(dim=0)).tolist()
    return share


# Parameter -> how it is found; the last argument is C.
_FINDERS: dict[str, Callable[[Tensor, int], list[float]]] = {
    "class_weights": balanced_class_weights,
    "pos_weight": lambda targets, _: balanced_pos_weight(targets),
    "alpha": balanced_alpha,
}


def fill_balanced(params: Mapping[str, Any], targets: Tensor, num_classes: int) -> dict[str, Any]:
    """Replace ``balanced`` in a loss's parameters by numbers.

    Args:
        params: Of a loss.
        targets: Class numbers [N] or labels [N, T] of the training set.
        num_classes: C.

    Example:
        >>> fill_balanced({"class_weights": "balanced", "gamma": 2}, torch.tensor([0, 1]), 2)
        {'class_weights': [1.0, 1.0], 'gamma': 2}
    """
    filled = dict(params)
    for name, find in _FINDERS.items():
        if filled.get(name) == BALANCED:
            filled[name] = find(targets, num_classes)
    return filled


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
    """The model's own ``compute_loss`` if it has one, else the configured loss."""
    return getattr(model, "compute_loss", configured)

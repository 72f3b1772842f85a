"""Weights that make up for classes, or labels, of unequal frequency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

BALANCED = "balanced"


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


def balanced_pos_weight(targets: Tensor) -> list[float]:
    """Weights that give the samples with a label as much say as those without: N_without / N_with.

    Args:
        targets: Labels (0 or 1) of the training part, [N, T].

    Example:
        >>> balanced_pos_weight(torch.tensor([[1.0], [0.0], [0.0], [0.0]]))
        [3.0]
    """
    there = targets.double().sum(dim=0)
    return [(len(targets) - count) / max(count, 1.0) for count in there.tolist()]


def balanced_alpha(targets: Tensor, num_classes: int) -> list[float]:
    """The focal loss's alphas: of classes their weights, of labels the share without each.

    Args:
        targets: Class numbers [N] or labels [N, T] of the training part.
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
    """Put numbers where a loss's parameters say ``balanced``.

    Args:
        params: Of a loss.
        targets: Class numbers [N] or labels [N, T] of the training part.
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

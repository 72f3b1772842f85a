"""Cross-entropy with class weights, and what its mean is divided by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# A batch whose classes all have weight 0 gives 0, not 0 / 0.
SMALLEST = float(torch.finfo(torch.float32).tiny)


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Weighted mean of the cross-entropies, in fp32: sum(w loss) / sum(w), as torch has it.

    Args:
        logits: [B, C].
        targets: Classes, long [B], or class probabilities, float [B, C], whose mean is divided by
            B whatever the weights are.
        class_weights: [C], or None for equal weights.
        label_smoothing: Share of the target spread evenly over the classes, 0 to 1.

    Example:
        >>> logits, targets = torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> round(cross_entropy(logits, targets, torch.tensor([1.0, 3.0])).item(), 4)
        0.4082
    """
    if not weighs(class_weights, targets):
        return functional.cross_entropy(
            logits.float(), targets, weight=class_weights, label_smoothing=label_smoothing
        )
    summed = functional.cross_entropy(
        logits.float(),
        targets,
        weight=class_weights,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    assert class_weights is not None
    return summed / weight_sum(targets, class_weights).clamp_min(SMALLEST)


def weighs(class_weights: Tensor | None, targets: Tensor) -> bool:
    """Whether the mean is divided by the samples' weights, not by their number."""
    return class_weights is not None and not targets.is_floating_point()


def weight_sum(targets: Tensor, class_weights: Tensor) -> Tensor:
    """Sum of the samples' class weights, a scalar.

    Args:
        targets: Classes, long [B].
        class_weights: [C].
    """
    return class_weights[targets].sum()

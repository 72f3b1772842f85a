"""What a score reaches at a threshold that meets a demand."""

from __future__ import annotations

from sklearn.metrics import roc_curve
from torch import Tensor


def recall_at_fpr(scores: Tensor, positive: Tensor, fpr: float) -> float:
    """The highest recall at which at most this share of the negatives is called positive.

    Args:
        scores: [N], all finite.
        positive: bool [N], both values among them.
        fpr: False positive rate that is tolerated, 0 to 1.

    Example:
        >>> import torch
        >>> scores, positive = torch.tensor([0.9, 0.8, 0.3, 0.1]), torch.tensor([1, 0, 1, 0])
        >>> recall_at_fpr(scores, positive, 0.0), recall_at_fpr(scores, positive, 0.5)
        (0.5, 1.0)
    """
    false, true, _ = roc_curve(positive.numpy(), scores.numpy(), drop_intermediate=False)
    return float(true[false <= fpr].max())


def specificity_at_sensitivity(scores: Tensor, positive: Tensor, sensitivity: float) -> float:
    """The highest specificity at which at least this share of the positives is found.

    Args:
        scores: [N], all finite.
        positive: bool [N], both values among them.
        sensitivity: The share that must be found, 0 to 1.

    Example:
        >>> import torch
        >>> scores, positive = torch.tensor([0.9, 0.8, 0.3, 0.1]), torch.tensor([1, 0, 1, 0])
        >>> specificity_at_sensitivity(scores, positive, 0.9)
        0.5
    """
    false, true, _ = roc_curve(positive.numpy(), scores.numpy(), drop_intermediate=False)
    return float((1 - false[true >= sensitivity]).max())

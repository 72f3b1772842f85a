"""Losses of each sample by itself: classes, labels, values, regularisers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from datasets.errors import UsageError
from datasets.specs import require_range
from engine.losses.inputs import OneTerm, Outputs, aligned, find_output, weights_or_none
from models.tft_loss import SMALLEST, cross_entropy, weighs, weight_sum


class CrossEntropy(OneTerm):
    """Cross-entropy of ``outputs["logits"]`` [B, C] against class numbers [B].

    ``label_smoothing`` is the share of the target spread evenly over the classes, 0 to below 1
    (Szegedy et al. 2016); ``class_weights`` are one factor per class.
    """

    class_weights: Tensor | None

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        require_range("cross_entropy.label_smoothing", label_smoothing, 0, 1)
        self.label_smoothing = label_smoothing
        weights = weights_or_none("class_weights", class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.weighted = weights is not None  # the mean is divided by a sum of class weights

    def _term(self, outputs: Outputs, targets: Tensor) -> Tensor:
        logits = find_output(outputs, "logits")
        return cross_entropy(logits, targets, self.class_weights, self.label_smoothing)

    def denominators(self, targets: Tensor, aux: Any = None) -> dict[str, Tensor]:
        """The sum of the samples' class weights, by which ``total_loss`` is divided."""
        if self.class_weights is None or not weighs(self.class_weights, targets):
            return {}
        return {"total_loss": weight_sum(targets, self.class_weights)}


class FocalLoss(OneTerm):
    """``-alpha (1 - p)^gamma log p``, averaged over samples (and labels) (Lin et al. 2017).

    p is the probability of the true class by softmax (targets are class numbers [B]), or of each
    label's presence or absence by sigmoid (targets are labels [B, T]). A ``gamma`` of 0 gives the
    cross-entropy. ``alpha`` is one factor per class, or for two classes that of class 1, with ``1 -
    alpha`` for class 0; of labels the factor of presence, one per label or one for all, with ``1 -
    alpha`` for absence.
    """

    alpha: Tensor | None

    def __init__(self, gamma: float = 2.0, alpha: Sequence[float] | float | None = None) -> None:
        super().__init__()
        require_range("focal.gamma", gamma, 0, float("inf"))
        if isinstance(alpha, (int, float)):
            require_range("focal.alpha", alpha, 0, 1, open_low=True)
        self.gamma = gamma
        self.register_buffer("alpha", weights_or_none("alpha", alpha), persistent=False)

    def _term(self, outputs: Outputs, targets: Tensor) -> Tensor:
        logits = find_output(outputs, "logits").float()
        if targets.is_floating_point():
            pair = aligned(outputs, targets)
            surprise = functional.binary_cross_entropy_with_logits(*pair, reduction="none")
            factor = self._of_labels(targets)
        else:
            surprise = functional.cross_entropy(logits, targets, reduction="none")
            factor = self._of_classes(targets, logits.shape[1])
        # 1 - p, exact also for p near 1; above 0, where its power has a finite slope.
        missing = (-torch.expm1(-surprise)).clamp_min(SMALLEST)
        focal = missing.pow(self.gamma) * surprise
        return (focal if factor is None else factor * focal).mean()

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


class BinaryCrossEntropy(OneTerm):
    """Cross-entropy of labels [B, T]; ``pos_weight`` are factors of present labels, or one."""

    pos_weight: Tensor | None

    def __init__(self, pos_weight: Sequence[float] | float | None = None) -> None:
        super().__init__()
        weights = weights_or_none("pos_weight", pos_weight)
        self.register_buffer("pos_weight", weights, persistent=False)

    def _term(self, outputs: Outputs, targets: Tensor) -> Tensor:
        pair, weight = aligned(outputs, targets), self.pos_weight
        return functional.binary_cross_entropy_with_logits(*pair, pos_weight=weight)


class MeanSquaredError(OneTerm):
    """Mean squared error of ``outputs["logits"]`` [B, T] against values [B, T]."""

    def _term(self, outputs: Outputs, targets: Tensor) -> Tensor:
        return functional.mse_loss(*aligned(outputs, targets))


class HuberLoss(OneTerm):
    """Half the squared error up to ``delta`` (in the scaled targets' unit), linear beyond."""

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        require_range("huber.delta", delta, 0, float("inf"), open_low=True)
        self.delta = delta

    def _term(self, outputs: Outputs, targets: Tensor) -> Tensor:
        return functional.huber_loss(*aligned(outputs, targets), delta=self.delta)


class NegativeEntropy(OneTerm):
    """Minus the entropy of the predicted probabilities, in nats: a penalty on confidence.

    Pereyra et al. 2017. Of classes (targets [B]) by softmax, of labels (targets [B, T]) by sigmoid,
    the mean over the labels.
    """

    def _term(self, outputs: Outputs, targets: Tensor) -> Tensor:
        logits = find_output(outputs, "logits").float()
        if targets.is_floating_point():
            # -p log p - (1 - p) log(1 - p) is the cross-entropy of p with itself.
            entropy = functional.binary_cross_entropy_with_logits(logits, logits.sigmoid())
        else:
            logs = logits.log_softmax(dim=1)
            entropy = -(logs.exp() * logs).sum(dim=1).mean()
        return -entropy


class OutputNorm(OneTerm):
    """L2: the mean square of one of the model's outputs, its ``embedding`` by default."""

    reads = "embedding"

    def _term(self, outputs: Outputs, targets: Tensor) -> Tensor:
        return find_output(outputs, self.reads).float().square().mean()

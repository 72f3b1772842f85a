"""Outputs that losses read, their parameters, and balanced class weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from datasets.errors import UsageError, nearest

# A model's, by name.
Outputs = Mapping[str, Any]


def find_output(outputs: Outputs, name: str) -> Tensor:
    """An output by a key or a path into nested dicts; UsageError, with the nearest, if missing."""
    found: Any = outputs
    for part in name.split("."):
        if not isinstance(found, Mapping) or found.get(part) is None:
            choices = found if isinstance(found, Mapping) else outputs
            raise UsageError(f"the model returns no '{name}' for the loss{nearest(part, choices)}")
        found = found[part]
    if not isinstance(found, Tensor):
        raise UsageError(f"the loss cannot be taken of '{name}': it is a {type(found).__name__}")
    return found


def has_output(outputs: Outputs, name: str) -> bool:
    """Whether there is such an output and it is not None; arguments as for :func:`find_output`."""
    found: Any = outputs
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found is not None


def aligned(outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The logits and the targets, as floats; UsageError for shapes that would be broadcast."""
    logits = find_output(outputs, "logits").float()
    if logits.shape != targets.shape:
        raise UsageError(
            f"the loss needs a value for each target: logits have shape {list(logits.shape)}, "
            f"targets {list(targets.shape)}"
        )
    return logits, targets.float()


class OneTerm(nn.Module):
    """Base of losses without further terms."""

    reads: str | None = "logits"  # None: several outputs

    def forward(self, outputs: Outputs, targets: Tensor, aux: Any = None) -> dict[str, Tensor]:
        """The loss as ``total_loss``, a scalar; UsageError for what it cannot be taken of."""
        return {"total_loss": self._term(outputs, targets)}

    def _term(self, outputs: Outputs, targets: Tensor) -> Tensor:
        raise NotImplementedError


def weights_or_none(name: str, weights: Sequence[float] | float | None) -> Tensor | None:
    """Weights, one each or one for all, as a tensor; ValueError below 0, or if all are 0."""
    if weights is None:
        return None
    expected = f"{name} must be numbers from 0 (or 'balanced'), not all 0"
    try:
        tensor = torch.as_tensor(weights, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{expected}; got {weights!r}") from error
    if not bool(((tensor >= 0) & torch.isfinite(tensor)).all()) or not bool(tensor.any()):
        raise ValueError(f"{expected}; got {weights!r}")
    return tensor


BALANCED = "balanced"


def balanced_class_weights(targets: Tensor, num_classes: int) -> list[float]:
    """N / (C * N_class), scikit-learn's ``balanced``; defined for classes without samples, too."""
    counts = torch.bincount(targets, minlength=num_classes)
    return [len(targets) / (num_classes * max(int(count), 1)) for count in counts]


def balanced_pos_weight(targets: Tensor) -> list[float]:
    """N_without / N_with of each label, from the labels (0 or 1) of the training set, [N, T]."""
    there = targets.double().sum(dim=0)
    return [(len(targets) - count) / max(count, 1.0) for count in there.tolist()]


def balanced_alpha(targets: Tensor, num_classes: int) -> list[float]:
    """The focal loss's alphas: of classes their balanced weights, of labels 1 - prevalence."""
    if targets.ndim == 1:
        return balanced_class_weights(targets, num_classes)
    return (1 - targets.double().mean(dim=0)).tolist()


# Parameter -> its balanced values; the last argument is C.
_FINDERS: dict[str, Callable[[Tensor, int], list[float]]] = {
    "class_weights": balanced_class_weights,
    "pos_weight": lambda targets, _: balanced_pos_weight(targets),
    "alpha": balanced_alpha,
}


def fill_balanced(params: Mapping[str, Any], targets: Tensor, num_classes: int) -> dict[str, Any]:
    """Replace ``balanced`` in a loss's parameters by numbers, from the training set's targets."""
    filled = dict(params)
    for name, find in _FINDERS.items():
        if filled.get(name) == BALANCED:
            filled[name] = find(targets, num_classes)
    return filled

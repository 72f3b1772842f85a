"""Outputs that losses read, and checks of their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datasets.errors import UsageError, nearest


def find_output(outputs: Mapping[str, Any], name: str) -> Tensor:
    """One of a model's outputs.

    Args:
        outputs: Of the model.
        name: A key, or a path into nested dicts (``attention_weights.scan_pooling``).

    Raises:
        UsageError: There is no such output; names the nearest.

    Example:
        >>> find_output({"a": {"b": torch.tensor(1.0)}}, "a.b")
        tensor(1.)
    """
    found: Any = outputs
    for part in name.split("."):
        if not isinstance(found, Mapping) or found.get(part) is None:
            choices = found if isinstance(found, Mapping) else outputs
            raise UsageError(f"the model returns no '{name}' for the loss{nearest(part, choices)}")
        found = found[part]
    if not isinstance(found, Tensor):
        raise UsageError(f"the loss cannot be taken of '{name}': it is a {type(found).__name__}")
    return found


def has_output(outputs: Mapping[str, Any], name: str) -> bool:
    """Whether there is such an output and it is not None; arguments as for :func:`find_output`."""
    found: Any = outputs
    for part in name.split("."):
        if not isinstance(found, Mapping) or found.get(part) is None:
            return False
        found = found[part]
    return True


def check_same_shape(logits: Tensor, targets: Tensor) -> None:
    """Raise UsageError for shapes that would be broadcast against each other."""
    if logits.shape != targets.shape:
        raise UsageError(
            f"the loss needs a value for each target: logits have shape {list(logits.shape)}, "
            f"targets {list(targets.shape)}"
        )


def weights_or_none(name: str, weights: Sequence[float] | float | None) -> Tensor | None:
    """Weights as a tensor.

    Args:
        name: Of the parameter.
        weights: One each, or one for all.

    Raises:
        ValueError: They are not numbers from 0, or all are 0.
    """
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

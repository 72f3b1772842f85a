"""Activation checkpointing: keeping what goes into a part, and computing the rest a second time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def recomputed(wanted: bool, part: Callable[..., Result], *inputs: Any) -> Result:
    """Run a part of a model, and keep no more than its inputs for the backward pass.

    The backward pass runs the part once more, under the autocast and from the random state of the
    first time, so that it draws the same dropout (Chen et al. 2016). Memory is traded for time:
    a third more of it where everything is recomputed.

    Args:
        wanted: Whether to; without gradients nothing is kept in any case.
        part: The hooks of modules that it calls run twice.
        inputs: Of the part.

    Returns:
        What the part returns.

    Example:
        >>> x = torch.ones(3, requires_grad=True)
        >>> recomputed(True, lambda x: x.exp().sin(), x).sum().backward()
        >>> torch.allclose(x.grad, x.exp().cos() * x.exp())
        True
    """
    if not wanted or not torch.is_grad_enabled():
        return part(*inputs)
    result: Result = checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=True)
    return result

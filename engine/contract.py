"""One forward pass before training, so that a wrong model fails in a line, not in epoch one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UsageError, nearest
from engine.evaluation_mode import evaluating
from engine.model_call import call_model
from engine.protocols import Loss
from engine.rng import rng_untouched


def check_contract(
    model: nn.Module,
    loss: Loss,
    batch: Any,
    num_classes: int,
    device: torch.device | str = "cpu",
) -> list[str]:
    """Run a model and its loss on one batch, without gradients and without using random numbers.

    Args:
        model: Called with ``spectra``, ``mask`` and ``tabular``.
        loss: Called with the outputs and the targets.
        batch: As the loader yields it.
        num_classes: C, the width that ``logits`` must have: the number of classes, of labels, or
            of values to regress.
        device: Where to run.

    Returns:
        The names of the loss's terms.

    Raises:
        UsageError: Says which part of the contract is broken.
    """
    name = type(model).__name__
    batch = batch.to(device)
    with evaluating(model.to(device)), torch.no_grad(), rng_untouched():
        outputs = call_model(model, batch)
        _check_outputs(name, outputs, (len(batch.sample_id), num_classes))
        losses = loss(outputs, batch.target)
    if not isinstance(losses, Mapping) or "total_loss" not in losses:
        found = ", ".join(losses) if isinstance(losses, Mapping) else type(losses).__name__
        raise UsageError(f"the loss must return a dict with 'total_loss', not: {found}")
    for term, value in losses.items():
        if not isinstance(value, Tensor) or value.ndim != 0:
            raise UsageError(f"the loss's term '{term}' must be a scalar tensor")
    return list(losses)


def _check_outputs(name: str, outputs: object, expected: tuple[int, int]) -> None:
    if not isinstance(outputs, Mapping):
        raise UsageError(
            f"model {name} must return a dict with 'logits', not {type(outputs).__name__}"
        )
    if "logits" not in outputs:
        raise UsageError(
            f"model {name} returns no 'logits'{nearest('logits', outputs)}; expected [B, C]"
        )
    shape = tuple(outputs["logits"].shape)
    if shape != expected:
        raise UsageError(
            f"model {name} gives logits of shape {list(shape)}, expected [B, C] = {list(expected)}"
        )

"""Contexts in which a model is measured: evaluation mode, other weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each module has the mode that it had."""
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


@contextmanager
def swapped_weights(
    model: nn.Module, live: Iterable[Tensor], other: Iterable[Tensor]
) -> Iterator[None]:
    """Exchange the values of ``live`` and ``other`` in place, and back at the end, with buffers."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    exchanged: list[tuple[Tensor, Tensor]] = []
    try:
        for pair in zip(live, other, strict=True):
            _exchange(*pair)
            exchanged.append(pair)
        yield
    finally:
        for pair in exchanged:
            _exchange(*pair)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


@torch.no_grad()
def _exchange(one: Tensor, other: Tensor) -> None:
    held = one.clone()
    one.copy_(other)
    other.copy_(held)

"""Contexts in which a model is measured: evaluation mode, other weights."""

from collections.abc import Iterator, Mapping, Sequence
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
    model: nn.Module, live: Sequence[Tensor], other: Sequence[Tensor]
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


class WeightAverage:
    """Base of handlers that average a model's weights, every floating point parameter.

    Buffers are not averaged: the averaged model uses the live ones, or those in ``_buffers``.
    """

    _model: nn.Module

    def __init__(self) -> None:
        self._names: list[str] = []
        self._live: list[Tensor] = []
        self._average: list[Tensor] = []
        self._buffers: dict[str, Tensor] = {}
        self._in_place = False

    def _follow(self, model: nn.Module) -> None:
        """Start with a copy of the model's weights."""
        self._model = model
        floating = [(n, p) for n, p in model.named_parameters() if p.is_floating_point()]
        self._names = [name for name, _ in floating]
        self._live = [parameter for _, parameter in floating]
        self._average = [parameter.detach().clone() for parameter in self._live]

    def _has_average(self) -> bool:
        """Whether there is an average to put into the model."""
        raise NotImplementedError

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """A context in which the model holds the averaged weights, if there are any yet.

        The live weights and the buffers come back. RuntimeError if the average is in place already.
        """
        if self._in_place:
            raise RuntimeError("the averaged weights are in place already")
        if not self._has_average():
            yield
            return
        self._in_place = True
        try:
            with swapped_weights(self._model, self._live, self._average):
                buffers = dict(self._model.named_buffers())
                with torch.no_grad():
                    for name, value in self._buffers.items():
                        buffers[name].copy_(value)
                yield
        finally:
            self._in_place = False

    def _named_average(self) -> dict[str, Tensor]:
        """The average by parameter; RuntimeError while the model holds it."""
        if self._in_place:
            raise RuntimeError("the averaged weights are in the model: leave their context first")
        return dict(zip(self._names, self._average, strict=True)) if self._has_average() else {}

    @torch.no_grad()
    def _load_average(self, saved: Mapping[str, Tensor]) -> None:
        """Continue a saved average; ValueError if it is another model's."""
        for name, average in zip(self._names, self._average, strict=True):
            if name not in saved or saved[name].shape != average.shape:
                found = list(saved[name].shape) if name in saved else "nothing"
                shape = list(average.shape)
                raise ValueError(f"the average of {name} should have shape {shape}, found {found}")
        if unknown := sorted(saved.keys() - set(self._names)):
            raise ValueError(f"the model has no parameter {unknown[0]}")
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(saved[name])

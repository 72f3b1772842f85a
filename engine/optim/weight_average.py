"""An average of a model's weights that can take their place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engine.eval_mode import swapped_weights
from engine.protocols import SavedAttributes


class WeightAverage(SavedAttributes):
    """Base of handlers that average a model's weights, every floating point parameter.

    Buffers are not averaged: the averaged model uses the live ones, or those in ``_statistics``.
    """

    _model: nn.Module

    def __init__(self) -> None:
        self._live: dict[str, Tensor] = {}
        self._average: dict[str, Tensor] = {}
        self._statistics: dict[str, Tensor] = {}
        self._in_place = False

    def _follow(self, trainer: Any) -> None:
        """Know the trainer's weights, by name."""
        self._model, self._device = trainer.model, trainer.device
        named = self._model.named_parameters()
        self._live = {name: p for name, p in named if p.is_floating_point()}

    def _begin_at_weights(self) -> None:
        """Let the average be a copy of the weights."""
        self._average = {name: p.detach().clone() for name, p in self._live.items()}

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """A context in which the model holds the averaged weights, if there are any yet.

        The live weights and the buffers come back. RuntimeError if the average is in place already.
        """
        if self._in_place:
            raise RuntimeError("the averaged weights are in place already")
        if not self._average:
            yield
            return
        self._in_place = True
        try:
            with swapped_weights(self._model, self._live.values(), self._average.values()):
                buffers = dict(self._model.named_buffers())
                with torch.no_grad():
                    for name, value in self._statistics.items():
                        buffers[name].copy_(value)
                yield
        finally:
            self._in_place = False

    def state_dict(self) -> dict[str, Any]:
        """What the average needs to go on; RuntimeError while the model holds it."""
        if self._in_place:
            raise RuntimeError("the averaged weights are in the model: leave their context first")
        return super().state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue a saved average; ValueError if it is another model's."""
        average = state_dict["average"]
        saved = {**state_dict.get("statistics", {}), **average}
        own = {**dict(self._model.named_buffers()), **self._live}
        for name in (*saved, *(self._live if average else ())):
            now, then = (list(of[name].shape) if name in of else "none" for of in (own, saved))
            if now != then:
                raise ValueError(f"the average of {name}: expected shape {now}, found {then}")
        super().load_state_dict(state_dict)

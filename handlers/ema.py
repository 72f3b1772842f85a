"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events
from torch import Tensor, nn

from datasets.specs import require_range
from engine.distributed import to_local
from engine.eval_mode import swapped_weights
from engine.events import Phase, TrainEvents

if TYPE_CHECKING:
    from engine.trainer import Trainer

# decay = (1 + n) / (10 + n) while that is less than the full decay, n updates after the start:
# TensorFlow's tf.train.ExponentialMovingAverage with num_updates.
WARMUP_OFFSET = 10


class EMA:
    """Follows the weights with a moving average, to be measured and kept in their place.

    After each optimizer step ``average += (1 - decay) * (weight - average)`` for every floating
    point parameter (Polyak and Juditsky 1992, "Acceleration of stochastic approximation by
    averaging"), in one operation over cached lists. Buffers, such as the running mean of a norm
    or its count of batches, are not averaged: the averaged model uses the live ones' values, and
    what happens to them meanwhile is undone.

    Args:
        decay: How much of the average stays at each step, 0 to below 1.
        warmup: Start with a small decay, so that the first weights are soon forgotten.

    Raises:
        UsageError: ``decay`` is out of range.

    Example:
        >>> [round(EMA(decay=0.9).decay_at(n), 2) for n in (0, 10, 1000)]
        [0.1, 0.55, 0.9]
    """

    phase = Phase.UPDATE

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        self.decay = require_range("ema.decay", decay, 0, 1)
        self.warmup = warmup
        self.updates = 0
        self._model: nn.Module
        self._names: list[str] = []
        self._live: list[Tensor] = []
        self._average: list[Tensor] = []
        self._in_place = False

    def attach(self, trainer: Trainer) -> None:
        """Listen to optimizer steps; the average is saved with every checkpoint."""
        self._model = trainer.model
        floating = [(n, p) for n, p in self._model.named_parameters() if p.is_floating_point()]
        self._names = [name for name, _ in floating]
        self._live = [parameter for _, parameter in floating]
        self._average = [parameter.detach().clone() for parameter in self._live]
        trainer.register_state("ema", self)
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(TrainEvents.OPTIMIZER_STEPPED, self)

    @torch.no_grad()
    def start(self) -> None:
        """Begin at the weights that training begins with, unless an average was restored."""
        if not self.updates:
            torch._foreach_copy_(to_local(self._average), to_local(self._live))

    def decay_at(self, updates: int) -> float:
        """The decay after so many updates."""
        if not self.warmup:
            return self.decay
        return min(self.decay, (1 + updates) / (WARMUP_OFFSET + updates))

    @torch.no_grad()
    def __call__(self, trainer: Trainer) -> None:
        """Let the average follow one step; not one that the device left out."""
        average, live = to_local(self._average), to_local(self._live)
        left_out = trainer.left_out_steps
        share = 1.0 - self.decay_at(max(self.updates - left_out.taken_back, 0))
        if left_out.flag is None:
            torch._foreach_lerp_(average, live, share)
        else:
            change = torch._foreach_sub(live, average)
            torch._foreach_mul_(change, (1 - left_out.flag) * share)
            torch._foreach_add_(average, change)
        self.updates += 1

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """A context in which the model holds the averaged weights; the live ones come back.

        They come back whatever happens in it, an exception too, and so do the buffers. Values
        are exchanged, so that neither a second copy of the model is made nor an optimizer or a
        compiled model loses sight of its tensors.

        Raises:
            RuntimeError: The averaged weights are in place already.
        """
        if self._in_place:
            raise RuntimeError("the averaged weights are in place already")
        self.start()
        self._in_place = True
        try:
            with swapped_weights(self._model, self._live, self._average):
                yield
        finally:
            self._in_place = False

    def state_dict(self) -> dict[str, Any]:
        """The average by parameter, and how many updates made it.

        Raises:
            RuntimeError: Asked for while the model holds the averaged weights.
        """
        if self._in_place:
            raise RuntimeError("the averaged weights are in the model: leave their context first")
        self.start()
        average = dict(zip(self._names, self._average, strict=True))
        return {"updates": self.updates, "average": average}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue a saved average.

        Raises:
            ValueError: It is the average of another model.
        """
        saved = state_dict["average"]
        for name, average in zip(self._names, self._average, strict=True):
            if name not in saved or saved[name].shape != average.shape:
                found = list(saved[name].shape) if name in saved else "nothing"
                raise ValueError(
                    f"the average of {name} should have shape {list(average.shape)}, found {found}"
                )
        if unknown := sorted(saved.keys() - set(self._names)):
            raise ValueError(f"the model has no parameter {unknown[0]}")
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(saved[name])
        self.updates = state_dict["updates"]

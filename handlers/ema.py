"""An exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from ignite.engine import Events

from datasets.specs import require_range
from engine.distributed import to_local
from engine.events import Phase, TrainEvents
from engine.optim import WeightAverage
from engine.trainer import Trainer

# decay = (1 + n) / (10 + n) while that is less than the full decay, n updates after the start:
# TensorFlow's tf.train.ExponentialMovingAverage with num_updates.
WARMUP_OFFSET = 10


class EMA(WeightAverage):
    """Exponential moving average of the weights, to be evaluated and saved in their place.

    After each optimizer step ``average += (1 - decay) * (weight - average)`` for every floating
    point parameter (Polyak and Juditsky 1992). With ``warmup`` the decay is small at first, so that
    the first weights are soon forgotten.
    """

    phase = Phase.UPDATE
    saved = ("updates", "_average")

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        super().__init__()
        self.decay = require_range("ema.decay", decay, 0, 1)
        self.warmup = warmup
        self.updates = 0

    def attach(self, trainer: Trainer) -> None:
        """Listen to optimizer steps; the average is saved with every checkpoint."""
        self._follow(trainer)
        self._begin_at_weights()
        trainer.register_state("ema", self)
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(TrainEvents.OPTIMIZER_STEPPED, self)

    def start(self) -> None:
        """Begin at the weights that training begins with, unless an average was restored."""
        if not self.updates:
            self._begin_at_weights()

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """As the base; before the first step the average is the present weights."""
        self.start()
        with super().averaged_weights():
            yield

    def decay_at(self, updates: int) -> float:
        """The decay after so many updates."""
        if not self.warmup:
            return self.decay
        return min(self.decay, (1 + updates) / (WARMUP_OFFSET + updates))

    @torch.no_grad()
    def __call__(self, trainer: Trainer) -> None:
        """Update the average after a step, unless the device left the step out."""
        average, live = (to_local(list(of.values())) for of in (self._average, self._live))
        left_out = trainer.left_out_steps
        share = 1.0 - self.decay_at(max(self.updates - left_out.taken_back, 0))
        if left_out.flag is None:
            torch._foreach_lerp_(average, live, share)
        else:
            change = torch._foreach_sub(live, average)
            torch._foreach_mul_(change, (1 - left_out.flag) * share)
            torch._foreach_add_(average, change)
        self.updates += 1

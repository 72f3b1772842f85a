"""Several micro-batches to one optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ignite.engine import Events

from datasets.specs import require_whole
from engine.events import Phase

if TYPE_CHECKING:
    from engine.trainer import Trainer


class Accumulation:
    """Adds up the gradients of ``steps`` micro-batches before each optimizer step.

    A window never reaches into the next epoch: the last one of an epoch closes with it. The step
    is that of one large batch with all samples of the window, also where micro-batches differ in
    size or in their class weights (:class:`engine.optim.StepShares`). Contrastive terms and
    norms over the batch see one micro-batch at a time.

    Sets ``trainer.state.accumulate_steps``, and in each iteration ``accumulation_size``
    (micro-batches in the present window) and ``sync_gradients`` (whether this one is the last).
    All of it follows from the iteration's number: nothing has to be saved.

    Args:
        steps: Micro-batches to an optimizer step, at least 1.

    Raises:
        UsageError: ``steps`` is less than 1.

    Example:
        >>> Accumulation(steps=4).steps
        4
    """

    phase = Phase.PREPARE

    def __init__(self, steps: int = 2) -> None:
        self.steps = require_whole("accumulation.steps", steps, 1)

    def attach(self, trainer: Trainer) -> None:
        """Say where a window stands before each iteration."""
        trainer.state.accumulate_steps = self.steps
        if self.steps > 1:
            trainer.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Find this iteration's window."""
        state = trainer.state
        position = (state.iteration - 1) % state.epoch_length
        in_window = position % self.steps
        if in_window == 0 and not state.sync_gradients:
            # The window before was left open (an epoch was cut short): its gradients are no
            # part of this one.
            trainer.optimizer.zero_grad(set_to_none=True)
        size = min(self.steps, state.epoch_length - position + in_window)
        state.accumulation_size = size
        state.sync_gradients = in_window == size - 1

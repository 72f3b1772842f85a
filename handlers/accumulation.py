"""Several micro-batches to one optimizer step."""

from ignite.engine import Events

from datasets.specs import require_whole
from engine.events import Phase
from engine.trainer import Trainer


class Accumulation:
    """Adds up the gradients of ``steps`` micro-batches before each optimizer step.

    The last accumulation of an epoch may be shorter. The step is that of one large batch, also
    where micro-batches differ in size or in their class weights (:class:`engine.optim.StepShares`).
    Contrastive terms and norms over the batch see one micro-batch at a time.
    """

    phase = Phase.PREPARE

    def __init__(self, steps: int = 2) -> None:
        self.steps = require_whole("accumulation.steps", steps, 1)

    def attach(self, trainer: Trainer) -> None:
        """Set the state before each iteration."""
        trainer.state.accumulate_steps = self.steps
        if self.steps > 1:
            trainer.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Find the place of this iteration in its accumulation."""
        state = trainer.state
        position = (state.iteration - 1) % state.epoch_length
        done = position % self.steps
        if done == 0 and not state.sync_gradients:
            # The accumulation before was left open (an epoch was cut short): drop its gradients.
            trainer.optimizer.zero_grad(set_to_none=True)
        size = min(self.steps, state.epoch_length - position + done)
        state.accumulation_size = size
        state.sync_gradients = done == size - 1

"""The evaluator: an engine that measures a model without changing it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from ignite.engine import Events
from torch import nn

from engine.checkpointing import preserve_rng_state
from engine.distributed import world_size
from engine.eval_mode import eval_mode
from engine.events import OrderedEngine
from engine.metrics import EpochMetrics
from engine.precision import Precision
from engine.prefetch import prefetched
from engine.protocols import Loss
from engine.steps import eval_step


class Evaluator(OrderedEngine):
    """Measures a model over a loader; ``metrics.outputs`` then holds the outputs.

    Collective: every rank evaluates its own batches, even if it has none, and gets the metrics of
    all samples. One rank evaluates by itself within :func:`engine.distributed.alone`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        metrics: EpochMetrics,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(eval_step)  # type: ignore[arg-type]
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.loss = loss
        self.precision = Precision()
        self.metrics = metrics
        self.state.metrics = {}
        metrics.attach(self)

    def evaluate(
        self, loader: Any, weights: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> dict[str, float]:
        """Run over the loader once, without changing the random number streams.

        ``weights`` opens the context with the weights to measure, such as averaged ones. Returns
        metric name -> value, NaN where undefined.
        """
        self.metrics.reset()
        self.state.metrics.clear()  # an interrupted run has no metrics
        try:
            with eval_mode(self.model), preserve_rng_state(), weights():
                if len(loader) == 0 and world_size() > 1:
                    self._run_over_nothing()
                else:
                    batches = prefetched(loader, self.device)
                    self.run(batches, max_epochs=1, epoch_length=len(loader))
        finally:
            # After an exception Ignite would treat the next run as a continuation.
            self.state.max_epochs = None
        return dict(self.state.metrics)

    def _run_over_nothing(self) -> None:
        """Take part in the collectives without a batch, which Ignite refuses."""
        self.state.iteration = self.state.epoch_length = 0
        self.should_terminate = False
        self.fire_event(Events.STARTED)
        # A rank that stops the others before their first batch stops this one, too.
        stopped, whole = (Events.TERMINATE,), (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED)
        for event in (*(stopped if self.should_terminate else whole), Events.COMPLETED):
            self.fire_event(event)

"""The evaluator: an engine that measures a model and leaves it as it was."""

from __future__ import annotations

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
    """Measures a model over a loader.

    Several processes measure together, each on batches of its own, and all get the metrics of all
    samples: each has to evaluate, also one that has no batch. What one process is to measure by
    itself it evaluates within :func:`engine.distributed.alone`.

    Args:
        model: As for :class:`engine.trainer.Trainer`.
        loss: As for the trainer.
        metrics: Computed once at the end of a run over the loader; what it kept stays readable
            in ``evaluator.metrics.outputs``.
        device: Where the model and the batches live.

    Attributes:
        precision: How a step computes; mixed precision takes this seat.
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
        self,
        loader: Any,
        weights: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> dict[str, float]:
        """Run over the loader once; the random number streams are left as they were.

        Args:
            loader: Yields every sample exactly once; of several processes, each of them in one.
            weights: Opens the context in which the model holds the weights to measure (such as
                averaged ones); the live ones are back afterwards, whatever happens.

        Returns:
            Metric name -> value; NaN where a metric is undefined on this data.
        """
        self.metrics.reset()
        self.state.metrics.clear()  # a run that is stopped half way has measured nothing
        try:
            with eval_mode(self.model), preserve_rng_state(), weights():
                if len(loader) == 0 and world_size() > 1:
                    self._run_over_nothing()
                else:
                    batches = prefetched(loader, self.device)
                    self.run(batches, max_epochs=1, epoch_length=len(loader))
        finally:
            # After an exception Ignite would take the next run for a continuation.
            self.state.max_epochs = None
        return dict(self.state.metrics)

    def _run_over_nothing(self) -> None:
        """Take part where the other processes have all the batches; Ignite refuses to."""
        self.state.iteration = self.state.epoch_length = 0
        self.should_terminate = False
        self._fire_event(Events.STARTED)
        # Whoever stops the others before their first batch stops this process, too.
        stopped, whole = (Events.TERMINATE,), (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED)
        for event in (*(stopped if self.should_terminate else whole), Events.COMPLETED):
            self._fire_event(event)

"""Evaluation on validation data after an epoch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ignite.engine import Events

from datasets.specs import require_whole
from engine.evaluator import Evaluator
from engine.events import Phase
from engine.trainer import Trainer


class Validation:
    """Runs an evaluator after an epoch and adds its metrics to ``trainer.state.metrics``.

    They are absent in an epoch that is not measured. The last epoch of the budget always is.
    ``weights`` is a context with the weights to measure, such as ``EMA.averaged_weights``. The
    terms of the loss, ``loss_terms``, become metrics too.
    """

    phase = Phase.MEASURE

    def __init__(
        self,
        evaluator: Evaluator,
        loader: Any,
        every: int = 1,
        prefix: str = "val/",
        weights: Callable[[], AbstractContextManager[Any]] = nullcontext,
        loss_terms: Sequence[str] = (),
    ) -> None:
        self.evaluator = evaluator
        self.loader = loader
        self.every = require_whole("validation.every", every, 1)
        self.prefix = prefix
        self.weights = weights
        self.loss_terms = tuple(loss_terms)

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs and declare the metrics that will be there."""
        names = self.evaluator.metrics.metric_names(self.loss_terms)
        trainer.provide_metrics(*(self.prefix + name for name in names))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Evaluate, where this epoch is due."""
        metrics, epoch = trainer.state.metrics, trainer.state.epoch
        for name in [name for name in metrics if name.startswith(self.prefix)]:
            del metrics[name]
        if epoch % self.every == 0 or epoch == trainer.state.max_epochs:
            measured = self.evaluator.evaluate(self.loader, self.weights)
            metrics.update({self.prefix + name: value for name, value in measured.items()})

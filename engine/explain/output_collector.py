"""What a model says of each sample of an evaluation, kept until somebody asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ignite.engine import Events
from torch import Tensor

from engine.distributed import gather, interleave, world_size
from engine.evaluator import Evaluator
from engine.events import Phase


class OutputCollector(ABC):
    """Keeps tensors of each step of an evaluation, in the loader's order.

    Nothing is moved from the device, which would wait for it, before the evaluation is over and
    somebody asks. A subclass says what of a step is kept, and makes of it what is asked for.

    Several processes that evaluate together tell each other at the end what they kept, and each has
    all of it. What one of them evaluates by itself (:func:`engine.distributed.alone`) it keeps for
    itself.
    """

    phase = Phase.MEASURE

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, ...]] = []

    def attach(self, evaluator: Evaluator) -> None:
        """Listen to the start of evaluations and to their steps."""
        evaluator.add_event_handler(Events.STARTED, self.reset)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self)
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, self.join)

    def detach(self, evaluator: Evaluator) -> None:
        """Keep what there is, and listen no longer."""
        evaluator.remove_event_handler(self.reset, Events.STARTED)
        evaluator.remove_event_handler(self, Events.ITERATION_COMPLETED)
        evaluator.remove_event_handler(self.join, Events.EPOCH_COMPLETED)

    def reset(self) -> None:
        """Forget what an earlier evaluation left."""
        self._kept = []

    def __call__(self, evaluator: Any) -> None:
        """Keep what there is of one step."""
        found = self.take(evaluator)
        if found is not None:
            self._kept.append(found)

    def join(self) -> None:
        """Have all that the processes kept, in the order of one that takes all batches."""
        if world_size() > 1:
            self._kept = interleave(gather([tuple(t.cpu() for t in step) for step in self._kept]))

    @abstractmethod
    def take(self, evaluator: Any) -> tuple[Tensor, ...] | None:
        """The step's tensors on their device; None where the model gives nothing of the kind.

        Args:
            evaluator: ``state.batch`` and ``state.outputs`` are the step's.
        """

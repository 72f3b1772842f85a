"""The vectors that a model makes of samples, kept while it is measured."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from engine.evaluator import Evaluator
from engine.events import Phase


class Embeddings:
    """Keeps each sample's ``embedding`` of an evaluation, in the loader's order.

    A model that gives none is represented by its ``logits``. Nothing is moved from the device
    before the vectors are asked for.

    Attributes:
        source: ``embedding`` or ``logits``.

    Example::

        embeddings = Embeddings()
        embeddings.attach(evaluator)
        evaluator.evaluate(loader)
        embeddings.vectors
    """

    phase = Phase.MEASURE

    def __init__(self) -> None:
        self.source = "embedding"
        self._kept: list[Tensor] = []

    def attach(self, evaluator: Evaluator) -> None:
        """Listen to the start of evaluations and to their steps."""
        evaluator.add_event_handler(Events.STARTED, self.reset)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self)

    def reset(self) -> None:
        """Forget the vectors of an earlier evaluation."""
        self._kept = []

    def __call__(self, evaluator: Any) -> None:
        """Keep one step's vectors."""
        outputs = evaluator.state.outputs
        self.source = "embedding" if "embedding" in outputs else "logits"
        self._kept.append(outputs[self.source].detach().flatten(1))

    @property
    def vectors(self) -> Tensor:
        """[N, E], on the CPU."""
        return torch.cat(self._kept).float().cpu()

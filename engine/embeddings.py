"""The vectors that a model makes of samples, kept while it is measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.kept_outputs import KeptOutputs


class Embeddings(KeptOutputs):
    """Keeps each sample's ``embedding`` of an evaluation, in the loader's order.

    A model that gives none is represented by its ``logits``.

    Attributes:
        source: ``embedding`` or ``logits``.

    Example::

        embeddings = Embeddings()
        embeddings.attach(evaluator)
        evaluator.evaluate(loader)
        embeddings.vectors
    """

    def __init__(self) -> None:
        super().__init__()
        self.source = "embedding"

    def take(self, evaluator: Any) -> tuple[Tensor, ...]:
        """One step's vectors, [B, E]."""
        outputs = evaluator.state.outputs
        self.source = "embedding" if "embedding" in outputs else "logits"
        return (outputs[self.source].detach().flatten(1),)

    @property
    def vectors(self) -> Tensor:
        """[N, E], on the CPU."""
        return torch.cat([vectors for (vectors,) in self._kept]).float().cpu()

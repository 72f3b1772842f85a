"""The vectors that a model makes of samples, kept while it is measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.explain.output_collector import OutputCollector

# The first that a model gives.
CHOICES = (("embedding",), ("spec_embedding", "tab_embedding"), ("logits",))


class Embeddings(OutputCollector):
    """Keeps each sample's ``embedding`` of an evaluation, in the loader's order.

    Of a model that gives none, its ``spec_embedding`` and ``tab_embedding`` take its place, one
    behind the other where it gives both; else its ``logits``.

    Attributes:
        source: ``embedding``, ``spec_embedding and tab_embedding`` or one of these, or ``logits``.

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
        given = ([name for name in names if outputs.get(name) is not None] for names in CHOICES)
        chosen = next(names for names in given if names)
        self.source = " and ".join(chosen)
        return (torch.cat([outputs[name].detach().float() for name in chosen], dim=1),)

    @property
    def vectors(self) -> Tensor:
        """[N, E], on the CPU."""
        return torch.cat([vectors for (vectors,) in self._kept]).cpu()

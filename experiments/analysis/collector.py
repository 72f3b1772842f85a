"""What is found out about a model while it is measured, without a pass of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.evaluator import Evaluator
from engine.explain import AuxiliaryHeads, Embeddings, Gates, ScanAttention
from experiments.analysis.analysis import TestAnalysis


class AnalysisCollector:
    """Keeps each sample's vector, scan weights, gate and single modalities' scores.

    Example::

        kept = AnalysisCollector()
        with kept.attached(evaluator):
            evaluator.evaluate(loader)
        kept.findings(explained=explained)
    """

    def __init__(self) -> None:
        self.embeddings = Embeddings()
        self.scans = ScanAttention()
        self.gates = Gates()
        self.heads = AuxiliaryHeads()
        self.parts = (self.embeddings, self.scans, self.gates, self.heads)

    @contextmanager
    def attached(self, evaluator: Evaluator) -> Iterator[None]:
        """Listen for the while; later evaluations cost what they did before."""
        for part in self.parts:
            part.attach(evaluator)
        try:
            yield
        finally:
            for part in self.parts:
                part.detach(evaluator)

    def findings(self, **others: Any) -> TestAnalysis:
        """What was kept of the last evaluation, and others beside it."""
        return TestAnalysis(
            scan_weights=self.scans.weights,
            gate=self.gates.movement,
            heads=self.heads.logits,
            embedding=self.embeddings.vectors,
            embedding_source=self.embeddings.source,
            **others,
        )

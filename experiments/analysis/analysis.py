"""The analysis of a tested model beyond its metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from engine.evaluator import Evaluator
from engine.explain import AuxiliaryHeads, Embeddings, Explained, Gates, ScanAttention
from engine.metrics import AttentionSummary, summarise_attention
from engine.statistics import Calibration, OperatingPoint
from experiments.config import ReportConfig
from handlers.attribution import FILE_NAME, Attribution


@dataclass(frozen=True)
class TestAnalysis:
    """Analysis of the test set; a part is empty or None where it does not apply or was not wanted.

    Attributes:
        decisions: What is ranked (the positive class, each class against the rest, or each
            label) -> operating points, the configured one first.
        calibration: Of a classification.
        explained: Attributions, of the first so many samples in the cohort's order: one set of the
            predicted class, or one for each label or value explained; empty where nothing was.
        attention: What the model attends to, over many samples.
        scan_weights: The weight of each real scan, [S_i], for each test sample in the order of
            the outputs; None of a model that pools no scans by attention.
        gate: By how much the covariates move the spectra's vector, relative to its length, [N];
            None of a model without a gate.
        heads: Logits of the spectra's and of the covariates' auxiliary head, [N, C] each; None of
            a model without both.
        embedding: The samples' vectors, [N, E].
        embedding_source: What they are (:attr:`engine.explain.collectors.Embeddings.source`).
    """

    decisions: Mapping[str, Sequence[OperatingPoint]] = field(default_factory=dict)
    calibration: Calibration | None = None
    explained: Sequence[Explained] = ()
    attention: AttentionSummary | None = None
    scan_weights: Sequence[torch.Tensor] | None = None
    gate: torch.Tensor | None = None
    heads: tuple[torch.Tensor, torch.Tensor] | None = None
    embedding: torch.Tensor | None = None
    embedding_source: str = "embedding"

    def take(self, rows: Sequence[int]) -> TestAnalysis:
        """The same of some samples, in the order of ``rows``; what is of many stays as it is."""
        chosen = list(rows)
        weights, heads = self.scan_weights, self.heads
        return replace(
            self,
            scan_weights=None if weights is None else [weights[row] for row in chosen],
            gate=None if self.gate is None else self.gate[chosen],
            heads=None if heads is None else (heads[0][chosen], heads[1][chosen]),
            embedding=None if self.embedding is None else self.embedding[chosen],
        )


def about_unexplained(findings: TestAnalysis) -> str:
    """A phrase on outputs that were not explained; empty where each was."""
    sets = findings.explained
    if len(sets) < 2 or len(sets) >= sets[0].outputs:
        return ""
    return f"attributions are of the first {len(sets)} of {sets[0].outputs} outputs"


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
        """The analysis of the last evaluation."""
        return TestAnalysis(
            scan_weights=self.scans.weights,
            gate=self.gates.movement,
            heads=self.heads.logits,
            embedding=self.embeddings.vectors,
            embedding_source=self.embeddings.source,
            **others,
        )


class TestSetAnalysis:
    """Attaches to the test set's evaluator what the settings ask for."""

    def __init__(
        self,
        tester: Evaluator,
        settings: ReportConfig,
        run_dir: Path,
        output_names: Sequence[str] = (),
    ) -> None:
        self.tester = tester
        self.attribution: Attribution | None = None
        self.wanted = settings.enabled
        chosen = settings.attribution
        if self.wanted and chosen.method is not None:
            self.attribution = Attribution(
                chosen.method,
                max_samples=chosen.max_samples,
                steps=chosen.steps,
                output_names=output_names,
                path=run_dir / "report" / FILE_NAME,
            )
            self.attribution.attach(tester)

    def measure(
        self, loader: Any, weights: Callable[[], AbstractContextManager[Any]]
    ) -> tuple[dict[str, float], TestAnalysis]:
        """The metrics of a loader's samples, and their analysis."""
        if not self.wanted:
            return self.tester.evaluate(loader, weights), TestAnalysis()
        kept = AnalysisCollector()
        with kept.attached(self.tester):
            metrics = self.tester.evaluate(loader, weights)
        with weights():
            attention = summarise_attention(self.tester.model, loader, self.tester.device)
        explained = () if self.attribution is None else self.attribution.sets
        return metrics, kept.findings(explained=explained, attention=attention)

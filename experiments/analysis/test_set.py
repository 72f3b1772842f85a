"""The test set's evaluator with what is collected of its model, and the thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.explain import AuxiliaryHeads, Embeddings, Gates, ScanAttention
from engine.metrics import EpochOutputs, summarise_attention
from engine.statistics import Calibration, OperatingPoint, calibrate, operating_points
from experiments.analysis.outcome import TestAnalysis, ranked_outputs
from handlers.attribution import FILE_NAME, Attribution
from models import Ensemble

if TYPE_CHECKING:
    from engine.evaluator import Evaluator
    from experiments.config import ReportConfig, ThresholdConfig

# The method of attribution that needs no gradient.
ABLATION = "feature_ablation"


class AnalysisCollector:
    """Keeps each sample's vector, scan weights, gate and single modalities' scores."""

    def __init__(self) -> None:
        self.embeddings, self.scans = Embeddings(), ScanAttention()
        self.gates, self.heads = Gates(), AuxiliaryHeads()
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

    __test__ = False

    def __init__(
        self,
        tester: Evaluator,
        settings: ReportConfig,
        run_dir: Path,
        output_names: Sequence[str] = (),
    ) -> None:
        self.tester, self.settings = tester, settings
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
        model, trees = self.tester.model, []
        if isinstance(model, Ensemble) and self.settings.attribution.method != ABLATION:
            trees = model.without_gradient
        return metrics, kept.findings(
            explained=explained, attention=attention, without_gradient=trees
        )


def decide(
    outputs: Mapping[str, EpochOutputs], names: Sequence[str], threshold: ThresholdConfig
) -> tuple[dict[str, list[OperatingPoint]], Calibration | None]:
    """Choose thresholds and a temperature on ``val``, and see what they give on ``test``.

    Returns what is decided on -> its operating points, the configured rule's first; and the
    calibration. A regression has neither, nor have weights that diverged (logits not finite).
    """
    val, test = outputs["val"], outputs["test"]
    whole = all(bool(torch.isfinite(subset.logits).all()) for subset in (val, test))
    if test.task == "regression" or not whole:
        return {}, None
    found = {}
    pairs = zip(ranked_outputs(val, names), ranked_outputs(test, names), strict=True)
    rule = threshold.rule, threshold.demand
    for (_, name, val_scores, val_positive), (_, _, scores, positive) in pairs:
        found[name] = operating_points(val_scores, val_positive, scores, positive, *rule)
    return found, calibrate(val, test)

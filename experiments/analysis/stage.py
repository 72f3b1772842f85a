"""Looking at a model while its test side is measured: what its scores rest on, what it sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from engine.evaluator import Evaluator
from engine.metrics import summarise_attention
from experiments.analysis.analysis import TestAnalysis
from experiments.analysis.collector import AnalysisCollector
from experiments.config import ReportConfig
from handlers.attribution import FILE_NAME, Attribution


class TestSetAnalysis:
    """Attaches to the evaluator of the test side what is wanted to be known of it.

    Args:
        tester: Measures the test side.
        settings: Say what is wanted; without pages nothing is.
        run_dir: Attributions are written to its ``report`` folder.
        output_names: Of the classes, the labels or the regression's targets.
    """

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
        """The metrics of a loader's samples, and what was found out on the way.

        Args:
            loader: Of the test side.
            weights: As for :meth:`engine.evaluator.Evaluator.evaluate`.
        """
        if not self.wanted:
            return self.tester.evaluate(loader, weights), TestAnalysis()
        kept = AnalysisCollector()
        with kept.attached(self.tester):
            metrics = self.tester.evaluate(loader, weights)
        with weights():
            attention = summarise_attention(self.tester.model, loader, self.tester.device)
        explained = () if self.attribution is None else self.attribution.sets
        return metrics, kept.findings(explained=explained, attention=attention)

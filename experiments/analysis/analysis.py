"""A tested run: what is collected of its model, its thresholds, intervals and outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from datasets.audit import Finding
from datasets.cohort import about_positive
from datasets.messages import Message, sentences
from engine.evaluator import Evaluator
from engine.explain import AuxiliaryHeads, Embeddings, Explained, Gates, ScanAttention
from engine.metrics import AttentionSummary, EpochOutputs, summarise_attention
from engine.reporting import bounds_text, metric_message
from engine.statistics import (
    BOOTSTRAP,
    CLOPPER_PEARSON,
    FEWEST_GROUPS,
    TOO_FEW,
    Calibration,
    Interval,
    OperatingPoint,
    Reliability,
    calibrate,
    operating_points,
)
from handlers.attribution import FILE_NAME, Attribution

if TYPE_CHECKING:
    from experiments.baselines import Baselines, Leaderboard
    from experiments.builders import Data
    from experiments.config import Config, ReportConfig, ThresholdConfig


@dataclass(frozen=True)
class TestAnalysis:
    """Analysis of the test set; a part is empty or None where it does not apply or was not wanted.

    Attributes:
        decisions: The positive class, each class against the rest, or each label -> operating
            points, the configured one first.
        explained: Attributions of the first so many samples in the cohort's order: one set of the
            predicted class, or one for each label or value.
        scan_weights: The weight of each real scan, [S_i], for each sample.
        gate: By how much the covariates move the spectra's vector, relative to its length, [N].
        heads: Logits of the spectra's and of the covariates' auxiliary head, [N, C] each.
        embedding: The samples' vectors, [N, E].
    """

    __test__ = False  # pytest takes a class of such a name for tests

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


def about_unexplained(findings: TestAnalysis) -> Message:
    """A phrase on outputs that were not explained; empty where each was."""
    sets = findings.explained
    if len(sets) < 2 or len(sets) >= sets[0].outputs:
        return Message("")
    told = "attributions are of the first {} of {} outputs"
    return Message(told, len(sets), sets[0].outputs)


class AnalysisCollector:
    """Keeps each sample's vector, scan weights, gate and single modalities' scores."""

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

    __test__ = False

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


def decide(
    outputs: Mapping[str, EpochOutputs], names: Sequence[str], threshold: ThresholdConfig
) -> tuple[dict[str, list[OperatingPoint]], Calibration | None]:
    """Choose thresholds and a temperature on the validation set, and see what they give.

    ``outputs`` are those of ``val`` and ``test``. Returns the positive class of two, each class
    against the rest, or each label -> its operating points, the configured rule's first; and the
    calibration. A regression has neither, nor have weights that diverged (logits not finite).

    Example:
        >>> from experiments.config import ThresholdConfig
        >>> logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
        >>> outputs = EpochOutputs(logits, torch.tensor([0, 0, 1, 1]), list("abcd"), {})
        >>> found, _ = decide({"val": outputs, "test": outputs}, ["no", "yes"], ThresholdConfig())
        >>> found["yes"][0].name, round(found["yes"][0].threshold, 2)
        ('youden', 0.32)
    """
    val, test = outputs["val"], outputs["test"]
    whole = all(bool(torch.isfinite(split.logits).all()) for split in (val, test))
    if test.task == "regression" or not whole:
        return {}, None
    pairs = zip(_ranked(val, names), _ranked(test, names), strict=True)
    found = {
        name: operating_points(
            val_scores, val_positive, test_scores, test_positive, threshold.rule, threshold.demand
        )
        for (name, val_scores, val_positive), (_, test_scores, test_positive) in pairs
    }
    return found, calibrate(val, test)


def as_plain(
    decisions: Mapping[str, Sequence[OperatingPoint]], calibration: Calibration | None
) -> dict[str, Any]:
    """Thresholds and calibration in plain types, as ``metrics.json`` has them."""
    thresholds = {name: [asdict(point) for point in points] for name, points in decisions.items()}
    if calibration is None:
        return {"thresholds": thresholds, "calibration": None}
    return {
        "thresholds": thresholds,
        "calibration": {
            "temperature": calibration.temperature,
            "before": _plain_reliability(calibration.before),
            "after": _plain_reliability(calibration.after),
        },
    }


def _plain_reliability(found: Reliability) -> dict[str, Any]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(found).items()
    }


def _ranked(
    outputs: EpochOutputs, names: Sequence[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The names of all that is decided on, its scores [N] and who is positive, bool [N]."""
    scores, target = outputs.probabilities.numpy(), outputs.target.numpy()
    for number, name in enumerate(names):
        if outputs.task == "binary" and number == 0:
            continue  # of two classes only the second, the positive one
        labels = target[:, number] > 0 if outputs.task == "multilabel" else target == number
        yield name, scores[:, number], labels


def about_methods(figures: Sequence[Mapping[str, Interval]], task: str) -> list[Message]:
    """One sentence per method for intervals that are not by bootstrap.

    Args:
        figures: Of each model: metric -> figure.
        task: A key of ``engine.metrics.TASKS``.

    Example:
        >>> few = Interval(1.0, 0.63, 1.0, 50, "clopper_pearson")
        >>> about_methods([{"recall": few}], "binary")[0].partition(",")[0]
        '95% intervals of recall: Clopper and Pearson (1934)'
    """
    exact, too_few = (_names(figures, method) for method in (CLOPPER_PEARSON, TOO_FEW))
    told = []
    if exact:
        told.append(
            Message(
                "95% intervals of {}: Clopper and Pearson (1934), each group counted as one "
                "sample, as there are fewer than {} groups or all resamples agree.",
                list(map(metric_message, exact)),
                FEWEST_GROUPS,
            )
        )
    if too_few:
        told.append(about_too_few(too_few, task))
    return told


def about_too_few(names: Iterable[str], task: str) -> Message:
    """A sentence on metrics that have no interval for want of samples."""
    of_class = {"regression": "", "multilabel": " of a label"}.get(task, " of a class")
    told = f"No 95% interval of {{}}: fewer than {{}} groups{of_class}, or all resamples agree."
    return Message(told, list(map(metric_message, names)), FEWEST_GROUPS)


def too_few_of(intervals: Mapping[str, Interval]) -> list[str]:
    """The metrics that have no interval for want of samples."""
    return _names([intervals], TOO_FEW)


def _names(figures: Sequence[Mapping[str, Interval]], method: str) -> list[str]:
    return list(dict.fromkeys(n for own in figures for n, f in own.items() if f.method == method))


FEW_GROUPS = Message("With fewer than {} groups they are too narrow.", FEWEST_GROUPS)


@dataclass(frozen=True)
class Outcome:
    """A run that was trained, validated and tested.

    Attributes:
        results: ``val`` and ``test`` -> metric name -> value.
        intervals: Of the test metrics; empty where none are wanted.
        outputs: ``val`` and ``test`` -> logits, targets and sample ids.
        weights: Those that were tested, by name.
        parameters: Number of trainable ones.
        audit: Findings in the data, the gravest first.
        baselines: Classical models of the same training set, if enabled.
        leaderboard: The network beside them, if enabled.
        selected_test: After a refit, the test metrics of the weights that were selected before.
        baseline_outputs: ``val`` and ``test`` -> baseline -> outputs.
    """

    run_dir: Path
    config: Config
    data: Data
    results: dict[str, dict[str, float]]
    intervals: dict[str, Interval]
    outputs: dict[str, EpochOutputs]
    weights: dict[str, Tensor]
    epochs: int
    optimizer_steps: int
    parameters: int
    findings: TestAnalysis = field(default_factory=TestAnalysis)
    audit: Sequence[Finding] = ()
    baselines: Baselines | None = None
    leaderboard: Leaderboard | None = None
    selected_test: Mapping[str, float] = field(default_factory=dict)
    baseline_outputs: Mapping[str, Mapping[str, EpochOutputs]] = field(default_factory=dict)

    def about_positive(self) -> str:
        """A sentence on which class is the positive one; empty for tasks other than binary."""
        cohort = self.data.cohort
        about = about_positive(cohort.task, cohort.class_names)
        return Message("{}.", about.capitalized) if about else ""

    @property
    def test_groups(self) -> int:
        """Number of groups in the test set."""
        pairs = zip(self.data.cohort.groups, self.data.split, strict=True)
        return len({group for group, subset in pairs if subset == "test"})

    def interval_text(self, metric: str) -> str:
        """The bounds of a metric's interval, or that there are too few samples; else empty."""
        return bounds_text(self.test_interval(metric))

    def test_interval(self, metric: str) -> Interval:
        """A metric on the test set with its interval, if there is one."""
        return self.intervals.get(metric, Interval(self.results["test"][metric]))

    def about_intervals(self) -> str:
        """Sentences on how the intervals were found; empty where none are wanted."""
        if not self.intervals:
            return ""
        groups = self.test_groups
        if groups == 1:
            return Message(
                "The test set is one group: the uncertainty of its figures cannot be estimated."
            )
        told = about_methods([self.intervals], self.data.cohort.task)
        if any(found.method == BOOTSTRAP for found in self.intervals.values()):
            told.insert(
                0,
                Message(
                    "95% intervals: {} bootstrap resamples of the {} groups of the test set.",
                    self.config.report.resamples,
                    groups,
                ),
            )
            if groups < FEWEST_GROUPS:
                told.insert(1, FEW_GROUPS)
        return sentences(*told)

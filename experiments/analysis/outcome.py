"""What a finished run hands to its exports and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from datasets.audit import Finding
from datasets.cohort import about_positive
from engine.metrics import EpochOutputs
from engine.reporting import bounds_text
from engine.statistics import BOOTSTRAP, FEWEST_GROUPS, Interval
from experiments.analysis.analysis import TestAnalysis
from experiments.analysis.interval_words import about_methods
from experiments.builders import Data
from experiments.config import Config

FEW_GROUPS = f"With fewer than {FEWEST_GROUPS} groups they are too narrow."


@dataclass(frozen=True)
class Outcome:
    """A run that was trained, validated and tested.

    Attributes:
        run_dir: Its folder.
        config: Its configuration.
        data: The cohort and its split.
        results: ``val`` and ``test`` -> metric name -> value.
        intervals: Metric name -> its 95% interval on the test side; empty where none are wanted.
        outputs: ``val`` and ``test`` -> logits, targets and sample ids.
        weights: The weights that were tested, by name.
        epochs: Epochs trained.
        optimizer_steps: Optimizer steps taken.
        parameters: Numbers in the model that training can move.
        findings: What else is known of the tested model.
        audit: What was found in the data before anything was trained, the gravest first.
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

    def about_positive(self) -> str:
        """A sentence on which class is the positive one; empty for tasks other than binary."""
        cohort = self.data.cohort
        about = about_positive(cohort.task, cohort.class_names)
        return f"{about[:1].upper()}{about[1:]}." if about else ""

    @property
    def test_groups(self) -> int:
        """How many groups are on the test side."""
        pairs = zip(self.data.cohort.groups, self.data.split, strict=True)
        return len({group for group, side in pairs if side == "test"})

    def interval_text(self, metric: str) -> str:
        """The bounds of a metric's interval, or that there are too few samples; else empty."""
        return bounds_text(self.test_interval(metric))

    def test_interval(self, metric: str) -> Interval:
        """A metric on the test side with its interval, if there is one."""
        return self.intervals.get(metric, Interval(self.results["test"][metric]))

    def about_intervals(self) -> str:
        """Sentences on how the intervals were found; empty where none are wanted."""
        if not self.intervals:
            return ""
        groups = self.test_groups
        if groups == 1:
            return "The test set is one group: the uncertainty of its figures cannot be estimated."
        told = about_methods([self.intervals], self.data.cohort.task)
        if any(found.method == BOOTSTRAP for found in self.intervals.values()):
            told.insert(
                0,
                f"95% intervals: {self.config.report.resamples} bootstrap resamples of the "
                f"{groups} groups of the test set.",
            )
            if groups < FEWEST_GROUPS:
                told.insert(1, FEW_GROUPS)
        return " ".join(told)

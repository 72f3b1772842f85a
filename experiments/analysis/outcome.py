"""The outcome of a finished run, and sentences on its intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from datasets.audit import Finding
from datasets.cohort import about_positive
from engine.metrics import EpochOutputs
from engine.reporting import bounds_text
from engine.statistics import BOOTSTRAP, CLOPPER_PEARSON, FEWEST_GROUPS, TOO_FEW, Interval
from experiments.analysis.analysis import TestAnalysis
from experiments.builders import Data
from experiments.config import Config


def about_methods(figures: Sequence[Mapping[str, Interval]], task: str) -> list[str]:
    """One sentence per method for intervals that are not by bootstrap.

    Example:
        >>> few = Interval(1.0, 0.63, 1.0, 50, "clopper_pearson")
        >>> about_methods([{"recall": few}], "binary")[0].partition(",")[0]
        '95% intervals of recall: Clopper and Pearson (1934)'
    """
    exact, too_few = (_names(figures, method) for method in (CLOPPER_PEARSON, TOO_FEW))
    told = []
    if exact:
        told.append(
            f"95% intervals of {', '.join(exact)}: Clopper and Pearson (1934), each group counted "
            f"as one sample, as there are fewer than {FEWEST_GROUPS} groups or all resamples agree."
        )
    if too_few:
        told.append(about_too_few(too_few, task))
    return told


def about_too_few(names: Iterable[str], task: str) -> str:
    """A sentence on metrics that have no interval for want of samples."""
    of_class = {"regression": "", "multilabel": " of a label"}.get(task, " of a class")
    return (
        f"No 95% interval of {', '.join(names)}: fewer than {FEWEST_GROUPS} groups{of_class}, or "
        "all resamples agree."
    )


def too_few_of(intervals: Mapping[str, Interval]) -> list[str]:
    """The metrics that have no interval for want of samples."""
    return _names([intervals], TOO_FEW)


def _names(figures: Sequence[Mapping[str, Interval]], method: str) -> list[str]:
    return list(dict.fromkeys(n for own in figures for n, f in own.items() if f.method == method))


FEW_GROUPS = f"With fewer than {FEWEST_GROUPS} groups they are too narrow."


@dataclass(frozen=True)
class Outcome:
    """A run that was trained, validated and tested.

    Attributes:
        run_dir: Its folder.
        config: Its configuration.
        data: The cohort and its split.
        results: ``val`` and ``test`` -> metric name -> value.
        intervals: Metric name -> its 95% interval on the test set; empty where none are wanted.
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
        """Number of groups in the test set."""
        pairs = zip(self.data.cohort.groups, self.data.split, strict=True)
        return len({group for group, side in pairs if side == "test"})

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

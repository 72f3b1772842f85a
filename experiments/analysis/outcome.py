"""A tested run: the analysis of its test set, its intervals, and the run itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from datasets.cohort import about_positive
from datasets.messages import Message, sentences
from engine.reporting import figure_text, metric_message
from engine.statistics import (
    BOOTSTRAP,
    CLOPPER_PEARSON,
    FEWEST_GROUPS,
    TOO_FEW,
    Calibration,
    Interval,
    OperatingPoint,
)

if TYPE_CHECKING:
    from datasets.audit import Finding
    from engine.explain import Explained
    from engine.metrics import AttentionSummary, EpochOutputs
    from experiments.baselines import Baselines, Leaderboard
    from experiments.builders import Data
    from experiments.config import Config


@dataclass(frozen=True)
class TestAnalysis:
    """Analysis of the test set; a part is empty or None where it does not apply or was not wanted.

    ``decisions`` are, for the positive class, each class against the rest, or each label, its
    operating points, the configured one first. ``explained`` has one set of the predicted class, or
    one for each label or value. ``scan_weights`` are of each sample's real scans, N of [S_i];
    ``gate`` tells by how much the covariates move the spectra's vector, relative to its length,
    [N]; ``heads`` are logits of the spectra's and of the covariates' auxiliary head, [N, C] each;
    ``embedding`` is [N, E]; ``without_gradient`` are members that ``explained`` leaves out.
    """

    __test__ = False  # pytest takes a class of such a name for tests

    decisions: Mapping[str, Sequence[OperatingPoint]] = field(default_factory=dict)
    calibration: Calibration | None = None
    explained: Sequence[Explained] = ()
    attention: AttentionSummary | None = None
    scan_weights: Sequence[Tensor] | None = None
    gate: Tensor | None = None
    heads: tuple[Tensor, Tensor] | None = None
    embedding: Tensor | None = None
    embedding_source: str = "embedding"
    without_gradient: Sequence[str] = ()

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


def ranked_outputs(
    outputs: EpochOutputs, names: Sequence[str]
) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """All that is decided on: the positive class of two, each class against the rest, each label.

    Yields its number and name, the scores [N] and who is positive, bool [N].
    """
    scores, target = outputs.probabilities.numpy(), outputs.target.numpy()
    first = 1 if outputs.task == "binary" else 0
    for number, name in enumerate(names[first:], start=first):
        positive = target[:, number] > 0 if outputs.task == "multilabel" else target == number
        yield number, name, scores[:, number], positive


def ranked_scores(
    outputs: EpochOutputs, names: Sequence[str]
) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """Those of :func:`ranked_outputs` that have positive and negative samples, as curves need."""
    for number, name, scores, positive in ranked_outputs(outputs, names):
        if positive.any() and not positive.all():
            yield number, name, scores, positive


def as_plain(
    decisions: Mapping[str, Sequence[OperatingPoint]], calibration: Calibration | None
) -> dict[str, Any]:
    """Thresholds and calibration in plain types, as ``metrics.json`` has them."""
    thresholds = {name: list(map(asdict, points)) for name, points in decisions.items()}
    found: dict[str, Any] = {"thresholds": thresholds, "calibration": None}
    if calibration is not None:
        found["calibration"] = {"temperature": calibration.temperature}
        for when in ("before", "after"):
            figures = asdict(getattr(calibration, when))
            plain = {name: np.asarray(value).tolist() for name, value in figures.items()}
            found["calibration"][when] = plain
    return found


def about_methods(figures: Sequence[Mapping[str, Interval]], task: str) -> list[Message]:
    """One sentence per method for the intervals of each model that are not by bootstrap."""
    exact, too_few = (_names(figures, method) for method in (CLOPPER_PEARSON, TOO_FEW))
    told = []
    if exact:
        about = (
            "95% intervals of {}: Clopper and Pearson (1934), each group counted as one sample, "
            "as there are fewer than {} groups or all resamples agree."
        )
        told.append(Message(about, list(map(metric_message, exact)), FEWEST_GROUPS))
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


def about_members(weights: Mapping[str, float]) -> Message:
    """One line on what the logits of a model's members are multiplied by; empty without members."""
    if not weights:
        return Message("")
    each = [Message("{} {}", Message(name), figure_text(w)) for name, w in weights.items()]
    return Message("members, weighed by samples that they were not trained on: {}", each)


def about_trees(findings: TestAnalysis) -> Message:
    """One line on members that the attributions leave out; empty where there are none."""
    if not findings.explained or not findings.without_gradient:
        return Message("")
    return Message(
        "attributions leave out {}: trees have no gradient", list(findings.without_gradient)
    )


def about_positive_class(task: str, names: Sequence[str]) -> str:
    """A sentence on which class is the positive one; empty for tasks other than binary."""
    about = about_positive(task, names)
    return Message("{}.", about.capitalized) if about else ""


def about_refitted(epochs: int) -> str:
    """One line on the figures of a run with a refit, wherever both stand."""
    return (
        f"refitted to the training and validation sets for {epochs} "
        f"epoch{'' if epochs == 1 else 's'}: predictions, weights, page and package are of the "
        "refitted model; validation figures and thresholds are of the selected one"
    )


@dataclass(frozen=True)
class Outcome:
    """What has come of a run.

    ``results`` and ``outputs`` are of ``val`` and, once it was tested, of ``test``; ``intervals``
    of the test metrics, empty where none are wanted. ``parameters`` counts trainable ones.
    ``audit`` has the gravest first. After a refit, ``selected_test`` are the test metrics of
    the weights selected before. ``baseline_outputs`` are subset -> baseline -> outputs.
    ``member_weights`` are of an ensemble's members, empty of a single model.
    """

    run_dir: Path
    config: Config
    data: Data
    results: dict[str, dict[str, float]]
    outputs: dict[str, EpochOutputs]
    epochs: int
    optimizer_steps: int
    parameters: int
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    findings: TestAnalysis = field(default_factory=TestAnalysis)
    audit: Sequence[Finding] = ()
    baselines: Baselines | None = None
    leaderboard: Leaderboard | None = None
    selected_test: Mapping[str, float] = field(default_factory=dict)
    baseline_outputs: Mapping[str, Mapping[str, EpochOutputs]] = field(default_factory=dict)
    member_weights: Mapping[str, float] = field(default_factory=dict)

    def about_positive(self) -> str:
        """:func:`about_positive_class` of the cohort."""
        return about_positive_class(self.data.cohort.task, self.data.cohort.class_names)

    @property
    def test_groups(self) -> int:
        """Number of groups in the test set."""
        return len(set(self.data.cohort.groups[self.data.split == "test"]))

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
        told = []
        if any(found.method == BOOTSTRAP for found in self.intervals.values()):
            about = "95% intervals: {} bootstrap resamples of the {} groups of the test set."
            told.append(Message(about, self.config.report.resamples, groups))
            if groups < FEWEST_GROUPS:
                told.append(
                    Message("With fewer than {} groups they are too narrow.", FEWEST_GROUPS)
                )
        return sentences(*told, *about_methods([self.intervals], self.data.cohort.task))

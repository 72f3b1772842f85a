"""Limitations of a run's figures, and warnings about its data and its decisions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from datasets.covariates import MISSING
from datasets.messages import Message
from datasets.splits import SUBSETS
from engine.metrics import CLASSES
from engine.reporting import metric_message, share_text
from engine.statistics import OperatingPoint
from experiments.analysis import Outcome, TestAnalysis, too_few_of
from experiments.report.text.markdown_text import about_temperature, is_near_one, one_kind

# Below so many samples of a class, a metric of a subset moves by several hundredths by chance:
# the standard error of a sensitivity of 0.8 is 0.06 at 50 samples.
FEW = 50
# Up to 5 % of missing values are held to be of no consequence (Schafer 1999, Stat Methods Med Res).
NOTABLE_MISSING = 0.05
SIDE_SETS = {"val": "validation set", "test": "test set"}
# By how much a figure must move from validation to test for a warning, if it is also further
# than by chance: two standard errors of the difference of two shares.
NOTABLE_MOVE, STANDARD_ERRORS = 0.1, 2.0
# A share and the two counts it is of.
SHARES = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp")}


def limits(outcome: Outcome) -> list[Message]:
    """Limitations of the run's numbers, whatever they are."""
    return [
        Message(
            "All samples come from one cohort, {}: performance on another instrument, site, "
            "protocol or population is unknown.",
            outcome.data.cohort.root.name,
        ),
        Message("One model was evaluated on one split: another split or seed gives other numbers."),
        Message("Subgroups (by sex, age or site) were not evaluated separately."),
        Message("An association that the model uses is not necessarily causal."),
    ]


def warnings_of(outcome: Outcome) -> Iterator[str]:
    """Warnings about the run's data and figures, without a full stop."""
    data, cohort = outcome.data, outcome.data.cohort
    for found in outcome.audit:
        if found.level != "note":
            told = found.sentence
            yield Message("{} (it was accepted)", told) if found.accepted else told
    for side in SUBSETS[1:]:
        yield from _few(outcome, side)
        undefined = [n for n in outcome.config.metric_names if np.isnan(outcome.results[side][n])]
        if undefined:
            names = list(map(metric_message, undefined))
            yield Message(f"undefined in the {SIDE_SETS[side]}: {{}}", names)
    intervals = outcome.intervals.items()
    unsure = [n for n, i in intervals if not np.isnan(i.value) and np.isnan(i.low)]
    if unsure:
        why = ""
        if outcome.test_groups == 1:
            why = ": the test set is one group"
        elif too_few_of(outcome.intervals):
            why = ": too few samples"
        yield Message(f"no interval for {{}}{why}", list(map(metric_message, unsure)))
    yield from decision_warnings(outcome.findings, cohort.task)
    absent = cohort.samples[[*cohort.numeric, *cohort.categorical]].isna().mean()
    for column, share in absent[absent >= NOTABLE_MISSING].items():
        numeric = column in cohort.numeric
        mark = f"missing({column})" if numeric else f"{column}={MISSING}"
        indicated = "an" if mark in data.encoder.feature_names else "no"
        filled = ", filled with the training median" if numeric else ""
        told = f"missing in {{}} of the samples{filled}; the model has {indicated} indicator"
        yield Message(f"{{}} is {told} of missing values", column, f"{share:.0%}")


def _few(outcome: Outcome, side: str) -> Iterator[Message]:
    cohort = outcome.data.cohort
    targets = cohort.targets[outcome.data.split == side]
    told = f"fewer than {{}} samples in the {SIDE_SETS[side]}"
    if cohort.task == "regression":
        if len(targets) < FEW:
            yield Message("{}: {}", Message(told, FEW), len(targets))
        return
    names = cohort.class_names
    of_classes = cohort.task in CLASSES
    counts = np.bincount(targets, minlength=len(names)) if of_classes else targets.sum(axis=0)
    few = [Message("{} {}", *pair) for pair in zip(names, counts, strict=True) if pair[1] < FEW]
    if few:
        yield Message(told + ": {}", FEW, few)


def decision_warnings(findings: TestAnalysis, task: str = "binary") -> Iterator[Message]:
    """Warnings of the model card, without a full stop."""
    for name, points in findings.decisions.items():
        point = points[0]
        if math.isnan(point.threshold):
            yield Message(f"no threshold for {{}}: {one_kind(task)}", name)
        moved = []
        for figure in _moved(point):
            shares = (share_text(side[figure], 2) for side in (point.val, point.test))
            moved.append(Message("{} {} on validation, {} on test", Message(figure), *shares))
        if moved:
            yield Message("the threshold for {} does not transfer: {}", name, moved)
    calibration = findings.calibration
    if calibration is not None and not is_near_one(calibration.temperature):
        temperature = f"{calibration.temperature:.3g}"
        yield Message("temperature {}: {}", temperature, about_temperature(calibration))


def _moved(point: OperatingPoint) -> Iterator[str]:
    """Shares that differ between validation and test by more than chance."""
    for figure, counts in SHARES.items():
        apart = abs(point.val[figure] - point.test[figure])
        if math.isnan(apart) or apart <= NOTABLE_MOVE:
            continue
        subsets = (point.val, point.test)
        sizes = [sum(side[count] for count in counts) for side in subsets]
        share = sum(side[counts[0]] for side in subsets) / sum(sizes)
        error = math.sqrt(share * (1 - share) * sum(1 / size for size in sizes))
        if apart > STANDARD_ERRORS * error:
            yield figure

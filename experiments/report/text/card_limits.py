"""What a model card warns of: what the run's numbers do not say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from datasets.covariates import MISSING
from datasets.splits import SIDES
from engine.metrics import CLASSES
from experiments.analysis import Outcome, too_few_of
from experiments.report.text.decision_text import decision_warnings
from experiments.report.text.markdown_text import escape_markdown

# Below so many samples of a class, a metric of a side moves by several hundredths by chance alone:
# the standard error of a sensitivity of 0.8 is 0.06 at 50 samples.
FEW = 50
# Up to 5 % of missing values are held to be of no consequence (Schafer 1999, Stat Methods Med Res).
NOTABLE_MISSING = 0.05
SIDE_SETS = {"val": "validation set", "test": "test set"}


def limits(outcome: Outcome) -> Iterator[str]:
    """What the numbers do not say; warnings are of what was found in this very data.

    Args:
        outcome: Of a validated and tested run.

    Yields:
        Lines of Markdown.
    """
    data, cohort = outcome.data, outcome.data.cohort
    yield (
        f"All samples come from one cohort, {escape_markdown(cohort.root.name)}: performance on "
        "another instrument, site, protocol or population is unknown."
    )
    yield "One model was evaluated on one split: another split or seed gives other numbers."
    yield "Subgroups (by sex, age or site) were not evaluated separately."
    yield "An association that the model uses is not necessarily causal."
    yield from map(_warning, _audit(outcome))
    for side in SIDES[1:]:
        yield from _few(outcome, side)
        undefined = [n for n in outcome.config.metric_names if np.isnan(outcome.results[side][n])]
        if undefined:
            yield _warning(f"undefined in the {SIDE_SETS[side]}: {', '.join(undefined)}")
    unsure = [
        name
        for name, interval in outcome.intervals.items()
        if not np.isnan(interval.value) and np.isnan(interval.low)
    ]
    if unsure:
        why = ""
        if outcome.test_groups == 1:
            why = ": the test set is one group"
        elif too_few_of(outcome.intervals):
            why = ": too few samples"
        yield _warning(f"no interval for {', '.join(map(escape_markdown, unsure))}{why}")
    yield from map(_warning, decision_warnings(outcome.findings, cohort.task))
    absent = cohort.samples[[*cohort.numeric, *cohort.categorical]].isna().mean()
    for column, share in absent[absent >= NOTABLE_MISSING].items():
        numeric = column in cohort.numeric
        mark = f"missing({column})" if numeric else f"{column}={MISSING}"
        indicated = "an" if mark in data.encoder.feature_names else "no"
        filled = ", filled with the training median" if numeric else ""
        yield _warning(
            f"{escape_markdown(column)} is missing in {share:.0%} of the samples{filled}; the "
            f"model has {indicated} indicator of missing values"
        )


def _audit(outcome: Outcome) -> Iterator[str]:
    """What was found in the data before the training, and what was refused but accepted."""
    for found in outcome.audit:
        if found.level != "note":
            accepted = " (it was accepted)" if found.accepted else ""
            yield f"{escape_markdown(found.sentence)}{accepted}"


def _few(outcome: Outcome, side: str) -> Iterator[str]:
    cohort = outcome.data.cohort
    targets = cohort.targets[outcome.data.split == side]
    if cohort.task == "regression":
        if len(targets) < FEW:
            yield _warning(f"fewer than {FEW} samples in the {SIDE_SETS[side]}: {len(targets)}")
        return
    if cohort.task in CLASSES:
        numbers = np.bincount(targets, minlength=len(cohort.class_names))
        counts = dict(zip(cohort.class_names, numbers, strict=True))
    else:
        counts = dict(zip(cohort.class_names, targets.sum(axis=0), strict=True))
    few = [f"{escape_markdown(name)} {n}" for name, n in counts.items() if n < FEW]
    if few:
        yield _warning(f"fewer than {FEW} samples in the {SIDE_SETS[side]}: {', '.join(few)}")


def _warning(text: str) -> str:
    return f"**Warning:** {text}."

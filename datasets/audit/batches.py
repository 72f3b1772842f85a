"""Batch effects (plate, date, order, scan counts, intensity), and class counts per split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from datasets.audit.context import MOST_CATEGORIES, AuditContext, as_order, ask_order
from datasets.audit.findings import Finding
from datasets.audit.small_model import FAMILY_ERROR, Contrast, Examiner, Prediction, strongest
from datasets.messages import Message
from datasets.splits import SUBSETS

# Longer lists of batches would not be read.
MOST_LISTED = 6
# With fewer of a class in a split each sample moves its sensitivity by more than a tenth.
FEW = 10
# A class whose share in a split is off by more: a threshold set there does not hold elsewhere.
MUCH = 0.2


def check_batches(context: AuditContext) -> Iterator[Finding]:
    """Columns such as plate, site or date that separate the classes.

    Spectra carry the mark of their batch, so that a model can use it whether it is given the column
    or not.
    """
    given = "spectra" if context.cohort.has_spectra else "covariates"
    for column in context.batches:
        values = context.values(column)
        found = _ask(_suited_examiner(context, values), values)
        if found is not None and found.beyond_chance:
            yield found.finding(
                f"batch:{column}",
                _give_away(column, given, values, found.contrast),
            )


def check_order(context: AuditContext) -> Iterator[Finding]:
    """Whether the order of the file, often that of measuring, separates the classes."""
    order = np.arange(len(context.cohort.sample_ids), dtype=np.float64)
    found = ask_order(context.examiner, order)
    if found is not None and found.beyond_chance:
        yield found.finding(
            "order",
            Message(
                "the order of the file predicts {}: harmless if it was sorted afterwards, not if "
                "this is the order of measuring",
                found.contrast.target,
            ),
        )


def check_scan_counts(context: AuditContext) -> Iterator[Finding]:
    """Whether the number of a sample's scans, which every model sees, separates the classes."""
    counts = np.array([len(rows) for rows in context.cohort.scan_rows], dtype=np.float64)
    found = context.examiner.ask_numbers(counts)
    if found is not None and found.beyond_chance:
        yield found.finding(
            "scan_count",
            Message(
                "the number of scans predicts {}: on average {} in {}, {} in {}",
                *_means(counts, found.contrast, ".1f"),
            ),
        )


def check_intensity(context: AuditContext) -> Iterator[Finding]:
    """Whether the total intensity, before any scaling, separates the classes."""
    totals = context.scans.mean_of_samples(context.scans.log_total, len(context.cohort.sample_ids))
    found = context.examiner.ask_numbers(totals)
    if found is not None and found.beyond_chance:
        yield found.finding(
            "intensity",
            Message(
                "the total intensity of the scans predicts {}: on average {} in {}, {} in {}; the "
                "transform tic removes it",
                *_means(np.exp(totals), found.contrast, ".3g"),
            ),
        )


def _suited_examiner(context: AuditContext, values: pd.Series) -> Examiner:
    """Samples as units where a batch is within one group, so that no other group can tell of it."""
    groups = pd.Series(context.cohort.groups)
    lies_within = bool((groups.groupby(values.to_numpy()).nunique() <= 1).all())
    return context.examiner.of_samples() if lies_within else context.examiner


def _ask(examiner: Examiner, values: pd.Series) -> Prediction | None:
    order = as_order(values)
    answers = [examiner.ask_categories(values)]
    if order is not None:
        answers.append(ask_order(examiner, order))
    return strongest(answers)


def _give_away(column: str, given: str, values: pd.Series, contrast: Contrast) -> Message:
    shares = pd.Series(contrast.members).groupby(values.to_numpy()).mean()
    told = f"{{}} predicts {{}}, and {given} may give {{}} away"
    if len(shares) > MOST_LISTED:
        return Message(told, column, contrast.target, column)
    listed = [Message("{} of {}", f"{share:.0%}", name) for name, share in shares.items()]
    return Message(told + ": {} is {}", column, contrast.target, column, contrast.name, listed)


def _means(values: np.ndarray, contrast: Contrast, digits: str) -> tuple[str, ...]:
    """What is predicted, then the mean and the name of each of both classes."""
    inside = float(np.nanmean(values[contrast.members]))
    outside = float(np.nanmean(values[~contrast.members]))
    own = f"{inside:{digits}}", contrast.name, f"{outside:{digits}}", contrast.other
    return contrast.target, *own


def check_counts(context: AuditContext) -> Iterator[Finding]:
    """Number and share of each class in each split."""
    if context.split is None or context.cohort.task == "regression":
        return
    for subset in SUBSETS:
        here = context.split == subset
        if not here.any():
            continue
        counts = {c.name: int((c.members & here).sum()) for c in context.contrasts}
        if context.cohort.task != "multiclass":
            counts |= {c.other: int((~c.members & here).sum()) for c in context.contrasts}
        few = {name: number for name, number in counts.items() if number < FEW}
        if few:
            yield Finding(
                f"counts:{subset}",
                "note",
                min(few.values()),
                Message(
                    f"fewer than {{}} samples in the {subset} split: {{}}",
                    FEW,
                    [Message("{} {}", name, number) for name, number in few.items()],
                ),
            )
        for contrast in context.contrasts:
            share, whole = contrast.members[here].mean(), contrast.members.mean()
            if abs(share - whole) > MUCH:
                yield Finding(
                    f"shares:{subset}:{contrast.name}",
                    "note",
                    float(share),
                    Message(
                        f"{{}} makes up {{}} of the {subset} split, but {{}} of the cohort",
                        contrast.name,
                        f"{share:.0%}",
                        f"{whole:.0%}",
                    ),
                )


def check_tables(context: AuditContext) -> Iterator[Finding]:
    """Batches without any sample of some class, where chance does not explain it."""
    for column in context.batches:
        values = context.values(column)
        if values.nunique() > MOST_CATEGORIES:
            continue
        sizes = values.value_counts()
        empty = [
            Message("{} has no {}", level, name)
            for contrast in context.contrasts
            for name, members in (
                (contrast.name, contrast.members),
                (contrast.other, ~contrast.members),
            )
            if context.cohort.task != "multiclass" or name == contrast.name
            for level, size in sizes.items()
            if not (members & (values == level).to_numpy()).any()
            and (1 - members.mean()) ** size
            < FAMILY_ERROR / (len(sizes) * 2 * len(context.contrasts))
        ]
        if empty:
            yield Finding(
                f"table:{column}",
                "note",
                len(empty),
                Message(
                    "{} by class: {}"
                    f"{' and more' if len(empty) > MOST_LISTED else ''}; there the classes cannot "
                    "be compared",
                    column,
                    empty[:MOST_LISTED],
                ),
            )

"""Batch effects (plate, date, order, scan counts, intensity), and class counts per split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import numpy as np
import pandas as pd

from datasets.audit.context import MOST_CATEGORIES, AuditContext, as_order, ask_order
from datasets.audit.findings import Finding, Level
from datasets.audit.small_model import FAMILY_ERROR, Contrast, Examiner, Prediction
from datasets.splits import SIDES

# Longer lists of batches would not be read.
MOST_LISTED = 6
# With fewer of a class in a split each sample moves its sensitivity by more than a tenth.
FEW = 10
# A class whose share in a split is off by more: a threshold set there does not hold elsewhere.
MUCH = 0.2


def check_batches(subject: AuditContext) -> Iterator[Finding]:
    """Columns such as plate, site or date that separate the classes.

    Spectra carry the mark of their batch, so that a model can use it whether it is given the column
    or not.
    """
    given = "spectra" if subject.cohort.has_spectra else "covariates"
    for column in subject.batches:
        values = subject.values(column)
        found = _ask(_suited_examiner(subject, values), values)
        if _tells(found):
            yield _finding(
                f"batch:{column}",
                found,
                f"{column} predicts {found.contrast.target}, and {given} may give {column} away"
                f"{_shares(values, found.contrast)}",
            )


def check_order(subject: AuditContext) -> Iterator[Finding]:
    """Whether the order of the file, often that of measuring, separates the classes."""
    order = np.arange(len(subject.cohort.sample_ids), dtype=np.float64)
    found = ask_order(subject.examiner, order)
    if _tells(found):
        yield _finding(
            "order",
            found,
            f"the order of the file predicts {found.contrast.target}: harmless if it was sorted "
            "afterwards, not if this is the order of measuring",
        )


def check_scan_counts(subject: AuditContext) -> Iterator[Finding]:
    """Whether the number of a sample's scans, which every model sees, separates the classes."""
    counts = np.array([len(rows) for rows in subject.cohort.scan_rows], dtype=np.float64)
    found = subject.examiner.ask_numbers(counts)
    if _tells(found):
        yield _finding(
            "scan_count",
            found,
            f"the number of scans predicts {found.contrast.target}: "
            f"{_means(counts, found.contrast, '.1f')}",
        )


def check_intensity(subject: AuditContext) -> Iterator[Finding]:
    """Whether the total intensity, before any scaling, separates the classes."""
    totals = subject.scans.mean_of_samples(subject.scans.log_total, len(subject.cohort.sample_ids))
    found = subject.examiner.ask_numbers(totals)
    if _tells(found):
        yield _finding(
            "intensity",
            found,
            f"the total intensity of the scans predicts {found.contrast.target}: "
            f"{_means(np.exp(totals), found.contrast, '.3g')}; the transform tic takes it away",
        )


def _tells(found: Prediction | None) -> TypeGuard[Prediction]:
    return found is not None and found.beyond_chance


def _finding(name: str, found: Prediction, sentence: str) -> Finding:
    level: Level = "warn" if found.is_notable else "note"
    return Finding(name, level, found.value, sentence, found.interval)


def _suited_examiner(subject: AuditContext, values: pd.Series) -> Examiner:
    """Samples as units where a batch is within one group, so that no other group can tell of it."""
    groups = pd.Series(subject.cohort.groups)
    lies_within = bool((groups.groupby(values.to_numpy()).nunique() <= 1).all())
    return subject.examiner.of_samples() if lies_within else subject.examiner


def _ask(examiner: Examiner, values: pd.Series) -> Prediction | None:
    order = as_order(values)
    answers = [examiner.ask_categories(values)]
    if order is not None:
        answers.append(ask_order(examiner, order))
    given = [answer for answer in answers if answer is not None]
    return max(given, key=lambda answer: answer.low, default=None)


def _shares(values: pd.Series, contrast: Contrast) -> str:
    shares = pd.Series(contrast.members).groupby(values.to_numpy()).mean()
    if len(shares) > MOST_LISTED:
        return ""
    listed = ", ".join(f"{share:.0%} of {name}" for name, share in shares.items())
    return f": {contrast.name} is {listed}"


def _means(values: np.ndarray, contrast: Contrast, digits: str) -> str:
    inside = float(np.nanmean(values[contrast.members]))
    outside = float(np.nanmean(values[~contrast.members]))
    return (
        f"on average {inside:{digits}} in {contrast.name}, {outside:{digits}} in {contrast.other}"
    )


def check_counts(subject: AuditContext) -> Iterator[Finding]:
    """Number and share of each class in each split."""
    if subject.split is None or subject.cohort.task == "regression":
        return
    for subset in SIDES:
        here = subject.split == subset
        if not here.any():
            continue
        counts = {c.name: int((c.members & here).sum()) for c in subject.contrasts}
        if subject.cohort.task != "multiclass":
            counts |= {c.other: int((~c.members & here).sum()) for c in subject.contrasts}
        few = {name: number for name, number in counts.items() if number < FEW}
        if few:
            listed = ", ".join(f"{name} {number}" for name, number in few.items())
            yield Finding(
                f"counts:{subset}",
                "note",
                min(few.values()),
                f"fewer than {FEW} samples in the {subset} split: {listed}",
            )
        for contrast in subject.contrasts:
            share, whole = contrast.members[here].mean(), contrast.members.mean()
            if abs(share - whole) > MUCH:
                yield Finding(
                    f"shares:{subset}:{contrast.name}",
                    "note",
                    float(share),
                    f"{contrast.name} makes up {share:.0%} of the {subset} split, but {whole:.0%} "
                    "of the cohort",
                )


def check_tables(subject: AuditContext) -> Iterator[Finding]:
    """Batches without any sample of some class, where chance does not explain it."""
    for column in subject.batches:
        values = subject.values(column)
        if values.nunique() > MOST_CATEGORIES:
            continue
        sizes = values.value_counts()
        empty = [
            f"{level} has no {name}"
            for contrast in subject.contrasts
            for name, members in (
                (contrast.name, contrast.members),
                (contrast.other, ~contrast.members),
            )
            if subject.cohort.task != "multiclass" or name == contrast.name
            for level, size in sizes.items()
            if not (members & (values == level).to_numpy()).any()
            and (1 - members.mean()) ** size
            < FAMILY_ERROR / (len(sizes) * 2 * len(subject.contrasts))
        ]
        if empty:
            yield Finding(
                f"table:{column}",
                "note",
                len(empty),
                f"{column} by class: {', '.join(empty[:MOST_LISTED])}"
                f"{' and more' if len(empty) > MOST_LISTED else ''}; there the classes cannot be "
                "compared",
            )

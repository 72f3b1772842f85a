"""Columns that alone predict the label: who was recruited, or what a model is meant to find."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats.contingency import association

from datasets.audit.columns import MOST_CATEGORIES, is_batch, is_personal, names_subjects
from datasets.audit.context import AuditContext
from datasets.audit.contrasts import Contrast
from datasets.audit.findings import Finding, Level
from datasets.audit.label_leakage import is_disguise
from datasets.audit.small_model import Prediction


def check_confounding(subject: AuditContext) -> Iterator[Finding]:
    """Find columns that go together with the label.

    What people differ in whatever their disease, by its name (age, sex, ...), is warned of, also
    where the model is not given it: spectra tell it too. So are categories among the covariates,
    most of which say who was recruited. A number that predicts the label may be the very marker
    that is looked for: a note.

    Args:
        subject: What is audited.
    """
    for column in subject.columns:
        values = subject.values(column)
        if is_batch(column) or names_subjects(column, values) or is_disguise(subject, column):
            continue
        if not _can_be_asked(subject, column):
            continue
        found = subject.ask(column)
        if found is not None and found.beyond_chance:
            yield _tell(subject, column, found)


def _can_be_asked(subject: AuditContext, column: str) -> bool:
    """Whether it is a covariate, about a person, or a set of categories of whatever else."""
    if subject.is_covariate(column) or is_personal(column):
        return True
    return subject.values(column).nunique() <= MOST_CATEGORIES


def _tell(subject: AuditContext, column: str, found: Prediction) -> Finding:
    numbers, contrast = subject.numbers(column), found.contrast
    values = subject.values(column)
    seen = _categories(values, contrast) if numbers is None else _medians(numbers, contrast)
    kind, level, meaning = _judge(subject, column, found)
    return Finding(f"{kind}:{column}", level, found.value, f"{meaning}: {seen}", found.interval)


def _judge(subject: AuditContext, column: str, found: Prediction) -> tuple[str, Level, str]:
    """The kind of finding, its level and what it means."""
    target = found.contrast.target
    if is_personal(column) or column in subject.cohort.categorical:
        level: Level = "warn" if found.is_notable else "note"
        return "confounding", level, f"{column} is confounded with {target}"
    if subject.is_covariate(column):
        return "marker", "note", f"{column} alone predicts {target}, as marker or as confounder"
    meaning = f"{column} predicts {target}; the model is not given it, but spectra may tell it"
    return "column", "note", meaning


def _categories(values: pd.Series, contrast: Contrast) -> str:
    """The category whose share differs most, and how strongly all go with the label."""
    known = values.notna().to_numpy()
    given, members = values[known], contrast.members[known]
    table = pd.crosstab(given.to_numpy(), members)
    shares = table / table.sum()
    most = (shares[True] - shares[False]).abs().idxmax()
    known_of = Contrast(contrast.name, contrast.other, members)
    strength = association(table.to_numpy(), method="cramer")
    return f"{most} is {known_of.shares((given == most).to_numpy())} (Cramer's V {strength:.2f})"


def _medians(numbers: np.ndarray, contrast: Contrast) -> str:
    inside, outside = (np.nanmedian(numbers[m]) for m in (contrast.members, ~contrast.members))
    return f"its median is {inside:.4g} in {contrast.name}, {outside:.4g} in {contrast.other}"

"""Columns that predict the label: label leakage, missingness, confounders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats
from scipy.stats.contingency import association

from datasets.audit.context import (
    MOST_CATEGORIES,
    AuditContext,
    is_batch,
    is_personal,
    names_subjects,
)
from datasets.audit.findings import Finding
from datasets.audit.small_model import Contrast, Prediction
from datasets.messages import Message

# No marker in use ranks 99% of the pairs of patients correctly; a column made from the label does.
SAME = 0.99


def check_label_leakage(context: AuditContext) -> Iterator[Finding]:
    """Covariates that alone determine the label, but for a few errors."""
    for column in context.columns:
        if is_label_leakage(context, column):
            found = context.ask(column)
            assert found is not None
            section = "numeric" if column in context.cohort.numeric else "categorical"
            yield Finding(
                f"label_leakage:{column}",
                "refuse",
                found.value,
                Message(
                    "{} is {} in another form, or follows from it; leave it out of data.{}",
                    column,
                    found.contrast.target,
                    section,
                ),
                (found.low, found.high),
            )


def is_label_leakage(context: AuditContext, column: str) -> bool:
    """Whether a column is a covariate that is the label in another form."""
    if not context.is_covariate(column):
        return False
    found = context.ask(column)
    if found is None or not found.beyond_chance or found.value < SAME:
        return False
    return context.cohort.task != "regression" or _follows_a_target(context, column)


def _follows_a_target(context: AuditContext, column: str) -> bool:
    """Whether a numeric covariate orders the samples as a regression target does.

    A covariate that is larger in the upper half of the target is not enough: a good predictor is
    too.
    """
    numbers = context.numbers(column)
    if numbers is None:
        return True
    known = ~np.isnan(numbers)
    targets = context.cohort.targets[known].T
    return any(abs(stats.spearmanr(numbers[known], t).statistic) >= SAME for t in targets)


def check_missingness(context: AuditContext) -> Iterator[Finding]:
    """Columns whose empty cells separate the classes.

    A model sees where a column is empty, by an indicator or by the imputed median, and learns who
    was examined rather than what was found.
    """
    for column in context.columns:
        missing = context.values(column).isna().to_numpy()
        found = context.examiner.ask_numbers(missing.astype(np.float64)) if missing.any() else None
        if found is None or not found.beyond_chance:
            continue
        given = context.is_covariate(column)
        use = "" if given else "; the model is not given it"
        yield found.finding(
            f"missingness:{column}",
            Message(
                f"missingness of {{}} predicts {{}}: missing in {{}} of {{}} and {{}} of {{}}{use}",
                column,
                found.contrast.target,
                *found.contrast.shares(missing),
            ),
            may_warn=given,
        )


def check_confounding(context: AuditContext) -> Iterator[Finding]:
    """Columns that are associated with the label.

    Personal columns (age, sex, ...) are warned of even where the model is not given them, since
    spectra reflect them too; so are categorical covariates. A number that predicts the label may be
    a genuine marker: a note.
    """
    for column in context.columns:
        values = context.values(column)
        if is_batch(column) or names_subjects(column, values) or is_label_leakage(context, column):
            continue
        told = context.is_covariate(column) or is_personal(column)
        if not told and values.nunique() > MOST_CATEGORIES:
            continue
        found = context.ask(column)
        if found is not None and found.beyond_chance:
            yield _column_finding(context, column, found)


def _column_finding(context: AuditContext, column: str, found: Prediction) -> Finding:
    numbers, contrast = context.numbers(column), found.contrast
    values = context.values(column)
    seen = _categories(values, contrast) if numbers is None else _medians(numbers, contrast)

    def sentence(told: str) -> Message:
        return Message(told + seen.phrase, column, contrast.target, *seen.values)

    if is_personal(column) or column in context.cohort.categorical:
        return found.finding(f"confounding:{column}", sentence("{} is confounded with {}: "))
    if context.is_covariate(column):
        told = sentence("{} alone predicts {}, as marker or as confounder: ")
        return found.finding(f"marker:{column}", told, may_warn=False)
    told = sentence("{} predicts {}; the model is not given it, but spectra may tell it: ")
    return found.finding(f"column:{column}", told, may_warn=False)


def _categories(values: pd.Series, contrast: Contrast) -> Message:
    known = values.notna().to_numpy()
    given, members = values[known], contrast.members[known]
    table = pd.crosstab(given.to_numpy(), members)
    shares = table / table.sum()
    most = (shares[True] - shares[False]).abs().idxmax()
    known_of = Contrast(contrast.name, contrast.other, members)
    strength = association(table.to_numpy(), method="cramer")
    each = known_of.shares((given == most).to_numpy())
    return Message("{} is {} of {} and {} of {} (Cramer's V {})", most, *each, f"{strength:.2f}")


def _medians(numbers: np.ndarray, contrast: Contrast) -> Message:
    inside, outside = (
        f"{np.nanmedian(numbers[m]):.4g}" for m in (contrast.members, ~contrast.members)
    )
    return Message(
        "its median is {} in {}, {} in {}", inside, contrast.name, outside, contrast.other
    )

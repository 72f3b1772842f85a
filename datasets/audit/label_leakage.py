"""Covariates that are the label in another form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding

# No marker in use ranks 99 of 100 pairs of patients rightly; a column made from the label does.
SAME = 0.99


def check_label_leakage(subject: AuditContext) -> Iterator[Finding]:
    """Find covariates that alone tell the label, all but for slips of the pen.

    Args:
        subject: What is audited.
    """
    for column in subject.columns:
        if is_disguise(subject, column):
            found = subject.ask(column)
            assert found is not None
            section = "numeric" if column in subject.cohort.numeric else "categorical"
            yield Finding(
                f"label_leakage:{column}",
                "refuse",
                found.value,
                f"{column} is {found.contrast.target} in another form, or follows from it; leave "
                f"it out of data.{section}",
                found.interval,
            )


def is_disguise(subject: AuditContext, column: str) -> bool:
    """Whether a column is a covariate that is the label in another form."""
    if not subject.is_covariate(column):
        return False
    found = subject.ask(column)
    if found is None or not found.beyond_chance or found.value < SAME:
        return False
    return subject.cohort.task != "regression" or _follows_a_target(subject, column)


def _follows_a_target(subject: AuditContext, column: str) -> bool:
    """Whether a numeric covariate orders the samples as a value to regress does.

    That the upper half of the values has the larger covariates is not enough: a good predictor
    may well do that.
    """
    numbers = subject.numbers(column)
    if numbers is None:
        return True
    known = ~np.isnan(numbers)
    targets = subject.cohort.targets[known].T
    return any(abs(stats.spearmanr(numbers[known], t).statistic) >= SAME for t in targets)

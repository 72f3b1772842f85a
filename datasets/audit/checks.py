"""The audit of a cohort: leakage and confounding, found before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from datasets.audit.axis import check_axis, check_axis_shift
from datasets.audit.batches import (
    check_batches,
    check_counts,
    check_intensity,
    check_order,
    check_scan_counts,
    check_tables,
)
from datasets.audit.confounding import check_confounding, check_label_leakage, check_missingness
from datasets.audit.context import AuditContext
from datasets.audit.duplicates import check_blank_scans, check_duplicates
from datasets.audit.findings import Finding, sort_by_level
from datasets.audit.groups import check_groups, check_spelling
from datasets.cohort import Cohort
from datasets.messages import Message

# In the order of their findings of the same level.
CHECKS: tuple[Callable[[AuditContext], Iterable[Finding]], ...] = (
    check_groups,
    check_spelling,
    check_duplicates,
    check_label_leakage,
    check_missingness,
    check_confounding,
    check_batches,
    check_order,
    check_axis_shift,
    check_intensity,
    check_scan_counts,
    check_blank_scans,
    check_tables,
    check_counts,
    check_axis,
)
# Not for a cohort of covariates alone.
OF_SCANS = (
    check_duplicates,
    check_axis_shift,
    check_intensity,
    check_scan_counts,
    check_blank_scans,
    check_axis,
)


def audit(
    cohort: Cohort,
    split: np.ndarray | None = None,
    label: str | Sequence[str] | None = None,
    group: str | None = None,
    max_scans: int | None = None,
) -> list[Finding]:
    """Look for what would make a model's figures look better than they are.

    Args:
        cohort: The cohort.
        split: The split of each sample, str [N]; None skips the checks of splits.
        label: What :meth:`datasets.cohort.Cohort.read` was given.
        group: Likewise.
        max_scans: About how many scans to look at, those of samples drawn at random; None for all.
            A note says so where some are left out.

    Returns:
        The findings, the gravest first.
    """
    context = AuditContext(cohort, split, label, group, max_scans)
    checks = [check for check in CHECKS if cohort.has_spectra or check not in OF_SCANS]
    findings = [finding for check in checks for finding in check(context)]
    there = sum(map(len, cohort.scan_rows))
    looked_at = len(context.scans.rows) if cohort.has_spectra else there
    if looked_at < there:
        findings.append(
            Finding(
                "sampled",
                "note",
                looked_at,
                Message("only {} of {} scans were looked at, to save time", looked_at, there),
            )
        )
    return sort_by_level(findings)

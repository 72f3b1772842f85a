"""The audit of a cohort: leakage and confounding, found before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

import datasets.audit.column_checks as columns
import datasets.audit.scan_checks as scans
from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding, sort_by_level
from datasets.audit.hidden_groups import check_hidden_groups
from datasets.messages import Message

if TYPE_CHECKING:
    from datasets.cohort import Cohort

# In the order of their findings of the same level.
CHECKS: tuple[Callable[[AuditContext], Iterable[Finding]], ...] = (
    columns.check_groups,
    check_hidden_groups,
    columns.check_spelling,
    scans.check_duplicates,
    columns.check_label_leakage,
    columns.check_missingness,
    columns.check_confounding,
    columns.check_batches,
    columns.check_order,
    scans.check_axis_shift,
    scans.check_intensity,
    scans.check_scan_counts,
    scans.check_blank_scans,
    columns.check_tables,
    columns.check_counts,
    scans.check_axis,
)
# Not for a cohort of covariates alone.
OF_SCANS = [check for check in CHECKS if check.__module__ == scans.__name__]


def audit(
    cohort: Cohort,
    split: np.ndarray | None = None,
    max_scans: int | None = None,
) -> list[Finding]:
    """Look for what would make a model's figures look better than they are; the gravest first.

    ``split`` is that of each sample, str [N], None to skip its checks. About ``max_scans`` scans,
    of samples drawn at random, are looked at, None for all; a note says so where some are left out.
    """
    context = AuditContext(cohort, split, max_scans)
    checks = [check for check in CHECKS if cohort.has_spectra or check not in OF_SCANS]
    findings = [finding for check in checks for finding in check(context)]
    there = sum(map(len, cohort.scan_rows))
    looked_at = len(context.scans.rows) if cohort.has_spectra else there
    if looked_at < there:
        told = Message("only {} of {} scans were looked at, to save time", looked_at, there)
        findings.append(Finding("sampled", "note", looked_at, told))
    return sort_by_level(findings)

"""Checks of a cohort before training."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.audit.checks import CHECKS, OF_SCANS, audit
    from datasets.audit.context import AuditContext, is_batch, names_subjects
    from datasets.audit.findings import (
        LEVELS,
        Finding,
        accept,
        check_transforms,
        counted,
        sort_by_level,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)

"""Whether that a value is missing gives the label away."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding


def check_missingness(subject: AuditContext) -> Iterator[Finding]:
    """Find columns whose empty cells tell the classes apart.

    A model that is given the column sees where it is empty, by an indicator or by the median that
    stands there instead, and learns who was examined rather than what was found.

    Args:
        subject: What is audited.
    """
    for column in subject.columns:
        missing = subject.values(column).isna().to_numpy()
        found = subject.examiner.ask_numbers(missing.astype(np.float64)) if missing.any() else None
        if found is None or not found.beyond_chance:
            continue
        given = subject.is_covariate(column)
        use = "" if given else "; the model is not given it"
        yield Finding(
            f"missingness:{column}",
            "warn" if given and found.is_notable else "note",
            found.value,
            f"missingness of {column} predicts {found.contrast.target}: missing in "
            f"{found.contrast.shares(missing)}{use}",
            found.interval,
        )

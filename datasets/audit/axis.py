"""Whether the axis is even, and whether its points are measurements of their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import median_filter

from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding, counted

# Steps of an axis change slowly; one that differs so much from those around it is a seam.
SEAM = 10.0
AROUND = 21


def check_axis(subject: AuditContext) -> Iterator[Finding]:
    """Find gaps, crowded points and points that repeat their neighbour.

    Args:
        subject: What is audited.
    """
    axis = np.asarray(subject.cohort.axis, dtype=np.float64)
    steps = np.diff(axis)
    usual = median_filter(steps, size=AROUND, mode="nearest") if len(steps) else steps
    gaps = np.flatnonzero(steps > SEAM * usual)
    if len(gaps):
        first = int(gaps[0])
        yield Finding(
            "axis:gaps",
            "note",
            len(gaps),
            f"the axis has {counted(len(gaps), 'gap')}, the first from {axis[first]:g} to "
            f"{axis[first + 1]:g}: models take these points for neighbours",
        )
    crowded = np.flatnonzero(steps < usual / SEAM)
    if len(crowded):
        first = int(crowded[0])
        yield Finding(
            "axis:crowded",
            "warn",
            len(crowded),
            f"{counted(len(crowded), 'point')} of the axis all but repeating the one before: "
            f"{axis[first + 1]:.10g} after {axis[first]:.10g}, the first",
        )
    copies = subject.scans.copied_points
    if copies:
        yield Finding(
            "axis:copies",
            "warn",
            copies,
            f"{copies} of {len(axis)} points of the axis hold in every scan what the point before "
            "holds: spectra were stretched, or columns stand twice",
        )

"""Checks of the axis: gaps, repeated points, shifts between the classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter

from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding, counted
from datasets.messages import Message

# A step of the axis that differs by this factor from those around it is a gap or crowded.
SEAM = 10.0
AROUND = 21
# Peaks that change with the disease move a scan's apparent position too, by hundredths of a point.
SMALLEST_SHIFT = 0.1
# A shift has one direction over the whole axis; changes of peaks have not.
AGREEING_REGIONS = 0.9


def check_axis(context: AuditContext) -> Iterator[Finding]:
    """Gaps, crowded points, and points that repeat their neighbour."""
    axis = np.asarray(context.cohort.axis, dtype=np.float64)
    steps = np.diff(axis)
    usual = median_filter(steps, size=AROUND, mode="nearest") if len(steps) else steps
    gaps = np.flatnonzero(steps > SEAM * usual)
    if len(gaps):
        first = int(gaps[0])
        yield Finding(
            "axis:gaps",
            "note",
            len(gaps),
            Message(
                "the axis has {}, the first from {} to {}: models take these points for neighbours",
                counted(len(gaps), "gap"),
                f"{axis[first]:g}",
                f"{axis[first + 1]:g}",
            ),
        )
    crowded = np.flatnonzero(steps < usual / SEAM)
    if len(crowded):
        first = int(crowded[0])
        yield Finding(
            "axis:crowded",
            "warn",
            len(crowded),
            Message(
                "{} of the axis all but repeating the one before: {} after {}, the first",
                counted(len(crowded), "point"),
                f"{axis[first + 1]:.10g}",
                f"{axis[first]:.10g}",
            ),
        )
    copies = context.scans.copied_points
    if copies:
        yield Finding(
            "axis:copies",
            "warn",
            copies,
            Message(
                "{} of {} points of the axis hold in every scan what the point before holds: "
                "spectra were stretched, or columns stand twice",
                copies,
                len(axis),
            ),
        )


def check_axis_shift(context: AuditContext) -> Iterator[Finding]:
    """A calibration that differs between the classes.

    Each scan is compared with the mean scan in several regions of the axis; to first order a shift
    adds a multiple of the mean scan's slope.
    """
    scans, cohort = context.scans, context.cohort
    count = len(cohort.sample_ids)
    if not scans.shifts.shape[1]:
        return
    by_region = pd.DataFrame(
        {
            number: scans.mean_of_samples(shifts, count)
            for number, shifts in enumerate(scans.shifts.T)
        }
    )  # [N, W]
    found = context.examiner.ask_numbers(by_region.median(axis=1).to_numpy())
    if found is None or not found.beyond_chance:
        return
    members = found.contrast.members
    apart = by_region[members].median() - by_region[~members].median()
    shift = float(apart.median())
    agreeing = float((np.sign(apart) == np.sign(shift)).mean())
    direction = "right" if shift > 0 else "left"
    if abs(shift) >= SMALLEST_SHIFT and agreeing >= AGREEING_REGIONS:
        yield found.finding(
            "axis_shift",
            Message(
                f"a shift of the axis predicts {{}}: scans of {{}} are shifted about {{}} points "
                f"{direction} of the others, as by another calibration",
                found.contrast.target,
                found.contrast.name,
                f"{abs(shift):.1f}",
            ),
        )

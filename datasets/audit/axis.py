"""Checks of the axis: gaps, repeated points, shifts between the classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from scipy.ndimage import median_filter

from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding, counted

# Steps of an axis change slowly; one that differs so much from those around it is a seam.
SEAM = 10.0
AROUND = 21
# Peaks that rise or fall with the disease move a scan's apparent position too, by hundredths of a
# point; only what is more can be a shift.
SMALLEST_SHIFT = 0.1
# A shift goes one way all over the axis, changes of peaks here and there.
AGREEING_REGIONS = 0.9


def check_axis(subject: AuditContext) -> Iterator[Finding]:
    """Gaps, crowded points, and points that repeat their neighbour."""
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


def check_axis_shift(subject: AuditContext) -> Iterator[Finding]:
    """A calibration that differs between the classes.

    Each scan is compared with the mean scan in several regions of the axis; to first order a shift
    adds a multiple of the mean scan's slope.
    """
    scans, cohort = subject.scans, subject.cohort
    count = len(cohort.sample_ids)
    regions = [scans.mean_of_samples(region, count) for region in scans.shifts.T]
    if not regions:
        return
    by_region = np.stack(regions, axis=1)  # [N, W]
    found = subject.examiner.ask_numbers(_median(by_region, axis=1))
    if found is None or not found.beyond_chance:
        return
    members = found.contrast.members
    apart = _median(by_region[members], axis=0) - _median(by_region[~members], axis=0)
    shift = float(_median(apart, axis=0))
    agreeing = float((np.sign(apart) == np.sign(shift)).mean())
    direction = "right" if shift > 0 else "left"
    if abs(shift) >= SMALLEST_SHIFT and agreeing >= AGREEING_REGIONS:
        yield Finding(
            "axis_shift",
            "warn" if found.is_notable else "note",
            found.value,
            f"a shift of the axis predicts {found.contrast.target}: scans of "
            f"{found.contrast.name} stand about {abs(shift):.1f} points {direction} of the "
            "others', as by another calibration",
            found.interval,
        )


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """Median of the known values; NaN where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of nothing but NaN
        return np.asarray(np.nanmedian(values, axis=axis))

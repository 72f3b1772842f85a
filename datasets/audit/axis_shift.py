"""Whether the scans of one class stand shifted along the axis."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding

# Peaks that rise or fall with the disease move a scan's apparent position too, by hundredths of a
# point; only what is more can be a shift.
SMALLEST_SHIFT = 0.1
# A shift goes one way all over the axis, changes of peaks here and there.
AGREEING_WINDOWS = 0.9


def check_axis_shift(subject: AuditContext) -> Iterator[Finding]:
    """Find a calibration that differs between the classes.

    Each scan is compared with the mean one in several windows of the axis; to first order a shift
    adds a multiple of the mean scan's slope.

    Args:
        subject: What is audited.
    """
    scans, cohort = subject.scans, subject.cohort
    count = len(cohort.sample_ids)
    windows = [scans.mean_of_samples(window, count) for window in scans.shifts.T]
    if not windows:
        return
    by_window = np.stack(windows, axis=1)  # [N, W]
    found = subject.examiner.ask_numbers(_median(by_window, axis=1))
    if found is None or not found.beyond_chance:
        return
    members = found.contrast.members
    apart = _median(by_window[members], axis=0) - _median(by_window[~members], axis=0)
    shift = float(_median(apart, axis=0))
    agreeing = float((np.sign(apart) == np.sign(shift)).mean())
    side = "right" if shift > 0 else "left"
    if abs(shift) >= SMALLEST_SHIFT and agreeing >= AGREEING_WINDOWS:
        yield Finding(
            "axis_shift",
            "warn" if found.is_notable else "note",
            found.value,
            f"a shift of the axis predicts {found.contrast.target}: scans of "
            f"{found.contrast.name} stand about {abs(shift):.1f} points {side} of the others', as "
            "by another calibration",
            found.interval,
        )


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """The median of what is known; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of nothing but NaN
        return np.asarray(np.nanmedian(values, axis=axis))

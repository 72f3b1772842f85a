"""Scans that are better left out: empty, saturated, or of an outlying total ion current."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.errors import CohortError, nearest
from datasets.readers import RawScan

EMPTY, SATURATED, TIC = "empty", "saturated", "tic"
REASONS = (EMPTY, SATURATED, TIC)
# So many points in a row at the scan's maximum are a top that was cut off.
FLAT_TOP_POINTS = 3
# Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): a modified z-score above 3.5.
TIC_SPREAD = 3.5
# Of a normal distribution, the standard deviation is so many median absolute deviations.
MAD_TO_STD = 1.4826
# Currents that differ by less than this share are alike, however alike the others are.
ALIKE = 0.05


@dataclass(frozen=True)
class ScanFilter:
    """Says which scans are left out; labels are not looked at.

    Attributes:
        reasons: Which of `REASONS` count. ``empty``: nothing but 0 on the axis. ``saturated``: a
            point at or above `ceiling`, or a flat top where none is given. ``tic``: a total ion
            current (the sum of the intensities on the axis) whose logarithm lies farther from the
            median of all scans than `spread` standard deviations, estimated robustly.
        ceiling: What the detector cannot exceed, in the intensities' unit.
        spread: For ``tic``.

    Raises:
        CohortError: A reason or a number that cannot be used.

    Example:
        >>> flat = RawScan("S1", "0", np.arange(4.0), np.array([1.0, 9.0, 9.0, 9.0]), "here")
        >>> ScanFilter(("saturated",)).reason(flat, flat.intensity)
        'saturated'
    """

    reasons: Collection[str] = ()
    ceiling: float | None = None
    spread: float = TIC_SPREAD

    def __post_init__(self) -> None:
        """Check the settings."""
        for reason in self.reasons:
            if reason not in REASONS:
                raise CohortError(f"no scan is left out for {reason!r}{nearest(reason, REASONS)}")
        if self.ceiling is not None and SATURATED not in self.reasons:
            raise CohortError("a ceiling of the detector needs the filter 'saturated'")
        if not self.spread > 0:
            raise CohortError(f"spread of the total ion current is {self.spread}; above 0, please")

    def plain(self) -> dict[str, Any]:
        """The settings as plain types; empty where nothing is left out."""
        if not self.reasons:
            return {}
        return {"reasons": sorted(self.reasons), "ceiling": self.ceiling, "spread": self.spread}

    def reason(self, scan: RawScan, spectrum: np.ndarray) -> str | None:
        """Why a scan is left out by what it holds itself, or None.

        Args:
            scan: As it was measured.
            spectrum: The same on the common axis, [L].
        """
        if EMPTY in self.reasons and not spectrum.any():
            return EMPTY
        if SATURATED in self.reasons and self._saturated(scan):
            return SATURATED
        return None

    def outlying(self, tic: np.ndarray) -> np.ndarray:
        """Which scans are left out for their total ion current, bool [N].

        Args:
            tic: Total ion currents of the scans that are left, [N].
        """
        if TIC not in self.reasons or not len(tic):
            return np.zeros(len(tic), dtype=bool)
        # What is not positive has no logarithm and is no spectrum of a detector that counts.
        level = np.log(np.maximum(tic, np.finfo(np.float64).tiny))
        distance = np.abs(level - np.median(level))
        return distance > max(self.spread * MAD_TO_STD * np.median(distance), np.log1p(ALIKE))

    def _saturated(self, scan: RawScan) -> bool:
        if not scan.points:
            return False
        top = scan.intensity.max()
        if self.ceiling is not None:
            return bool(top >= self.ceiling)
        if scan.centroid or top <= 0:
            return False
        at_top = np.concatenate([[0], scan.intensity == top, [0]]).astype(np.int8)
        starts, ends = (np.flatnonzero(np.diff(at_top) == step) for step in (1, -1))
        return bool((ends - starts).max() >= FLAT_TOP_POINTS)

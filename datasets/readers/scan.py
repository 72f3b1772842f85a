"""A scan as an instrument's file holds it, checked, before it is put onto a common axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from datasets.errors import CohortError


@dataclass(frozen=True, eq=False)
class RawScan:
    """One scan on the axis it was measured on.

    Attributes:
        sample_id: Whose scan it is.
        scan: Its name among the sample's scans.
        mz: Where it was measured (m/z, wavenumber, ...), float64 [n], never falling.
        intensity: What was measured there, float64 [n], finite.
        where: What to call it in an error line.
        centroid: True for a list of peaks, False for a profile, None where the file does not say.
        columns: What the file says of the sample, by column of samples.csv.
        details: What the file says of the scan, by column of scans.csv.

    Raises:
        CohortError: Axis and intensities do not fit, are not finite, or the axis falls.

    Example:
        >>> RawScan("S1", "0", np.array([1.0, 2.0]), np.array([5.0, 0.0]), "a.txt").points
        2
    """

    sample_id: str
    scan: str
    mz: np.ndarray
    intensity: np.ndarray
    where: str
    centroid: bool | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the arrays, as float64."""
        for name in ("mz", "intensity"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, values)
        if self.mz.ndim != 1 or self.mz.shape != self.intensity.shape:
            raise CohortError(
                f"{self.where}: {self.mz.size} points of the axis, but {self.intensity.size} "
                "intensities"
            )
        for name, values in (("axis", self.mz), ("intensity", self.intensity)):
            finite = np.isfinite(values)
            if not finite.all():
                point = int(np.argmin(finite))
                raise CohortError(
                    f"{self.where}: {name} {values[point]} at point {point}; finite was expected"
                )
        falls = np.diff(self.mz) < 0
        if falls.any():
            point = int(np.argmax(falls)) + 1
            hint = "; it falls throughout: reverse axis and intensities" if falls.all() else ""
            raise CohortError(
                f"{self.where}: the axis falls, point {point} is {self.mz[point]:g} after "
                f"{self.mz[point - 1]:g}{hint}"
            )

    @property
    def points(self) -> int:
        """How many points were measured, n."""
        return len(self.mz)

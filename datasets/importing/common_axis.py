"""The axis that a cohort's spectra share, and how a scan is brought onto it."""

from __future__ import annotations

import math

import numpy as np

from datasets.errors import CohortError, nearest
from datasets.readers import RawScan

AGGREGATES = ("mean", "sum", "max", "interpolate")
OWN = "own"
PPM = "ppm"
PARTS_PER_MILLION = 1e-6
# An axis that reaches STOP up to rounding does not include it.
ROUNDING = 1e-6
# 4 GB per thousand scans; more is a typing error.
MAX_POINTS = 10**6


def parse_axis(text: str) -> CommonAxis | OwnAxis:
    """Read an axis as the command line gives it.

    ``START:STOP:STEP`` are points from START on, before STOP; a STEP such as ``200ppm`` grows with
    the position. ``own`` keeps the axis that all scans have.

    Raises:
        CohortError: It is no such axis.
    """
    if text == OWN:
        return OwnAxis()
    try:
        start_text, stop_text, step_text = text.split(":")
        ppm = step_text.endswith(PPM)
        start, stop = float(start_text), float(stop_text)
        step = float(step_text.removesuffix(PPM))
    except ValueError as error:
        raise CohortError(
            f"axis {text!r} is not understood: START:STOP:STEP was expected, as 2000:20000:3 or "
            f"2000:20000:200ppm, or {OWN}"
        ) from error
    if not all(map(math.isfinite, (start, stop, step))) or step <= 0 or stop <= start:
        raise CohortError(f"axis {text!r}: STOP must lie above START, and STEP above 0")
    if ppm and start <= 0:
        raise CohortError(f"axis {text!r}: with a STEP in ppm START must lie above 0")
    growth = step * PARTS_PER_MILLION
    steps = math.log(stop / start) / math.log1p(growth) if ppm else (stop - start) / step
    if steps > MAX_POINTS:
        raise CohortError(f"axis {text!r} has {steps:.3g} points; at most {MAX_POINTS} are meant")
    number = np.arange(max(1, math.ceil(steps - ROUNDING)))
    points = start * (1 + growth) ** number if ppm else start + number * step
    if not (np.diff(points.astype(np.float32)) > 0).all():
        raise CohortError(f"axis {text!r}: STEP is too small for float32, in which axes are kept")
    if ppm:
        beyond = np.concatenate([[start / (1 + growth)], points, [points[-1] * (1 + growth)]])
        return CommonAxis(points, np.sqrt(beyond[:-1] * beyond[1:]))
    return CommonAxis(points, start + (np.arange(len(points) + 1) - 0.5) * step)


class CommonAxis:
    """A regular axis; a point stands for a bin around it.

    Each bin holds the mean, the sum or the maximum of the scan's points in it, its lower edge
    included; a bin without a point is 0. ``interpolate`` interpolates the scan linearly, with 0
    outside of it.

    Args:
        points: Centres of the bins, float64 [L].
        edges: Their edges, float64 [L + 1]; halfway between the points, in ratio for ppm.

    Example:
        >>> axis = CommonAxis(np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 2.5, 3.5]))
        >>> scan = RawScan("S1", "0", np.array([0.9, 1.1, 3.0]), np.array([2.0, 4.0, 5.0]), "here")
        >>> axis.place(scan, "mean").tolist()
        [3.0, 0.0, 5.0]
    """

    def __init__(self, points: np.ndarray, edges: np.ndarray) -> None:
        self.points = points
        self.edges = edges

    def place(self, scan: RawScan, aggregate: str) -> np.ndarray:
        """The scan on the axis, float64 [L].

        Raises:
            CohortError: There is no such aggregate, or a peak list is to be interpolated.
        """
        if aggregate not in AGGREGATES:
            raise CohortError(
                f"no aggregate is called {aggregate!r}{nearest(aggregate, AGGREGATES)}"
            )
        if aggregate == "interpolate":
            if scan.centroid:
                raise CohortError(
                    f"{scan.where} is a list of peaks, between which nothing can be interpolated; "
                    "choose sum or max"
                )
            if not scan.points:
                return np.zeros(len(self.points))
            return np.interp(self.points, scan.mz, scan.intensity, left=0.0, right=0.0)
        bounds = np.searchsorted(scan.mz, self.edges)
        counts = np.diff(bounds)
        filled = counts > 0
        binned = np.zeros(len(counts))
        if filled.any():
            # Between two filled bins there is no point, so that their starts delimit the bins.
            reduce = np.maximum.reduceat if aggregate == "max" else np.add.reduceat
            binned[filled] = reduce(scan.intensity[: bounds[-1]], bounds[:-1][filled])
        if aggregate == "mean":
            binned[filled] /= counts[filled]
        return binned

    def covered(self, scan: RawScan) -> np.ndarray:
        """Which of the scan's points are in a bin, bool [n]."""
        return (scan.mz >= self.edges[0]) & (scan.mz < self.edges[-1])

    def empty_bins(self, scan: RawScan) -> int:
        """Number of bins without a point of the scan."""
        return int((np.diff(np.searchsorted(scan.mz, self.edges)) == 0).sum())


class OwnAxis:
    """The axis that all scans have, float64 [L], set by the first scan; any other is refused."""

    def __init__(self, points: np.ndarray | None = None) -> None:
        self.points = points
        self._first = "an earlier scan"

    def place(self, scan: RawScan, aggregate: str) -> np.ndarray:
        """The scan unchanged, float64 [L].

        Raises:
            CohortError: It has another axis than the first scan, or its axis does not increase.
        """
        if self.points is None:
            falls = np.flatnonzero(~(np.diff(scan.mz.astype(np.float32)) > 0))
            if not scan.points or len(falls):
                at = f" at {scan.mz[falls[0]]:g}" if len(falls) else ""
                raise CohortError(
                    f"{scan.where}: its axis does not rise{at} as float32; give START:STOP:STEP"
                )
            self.points, self._first = scan.mz.copy(), scan.where
        if not np.array_equal(scan.mz, self.points):
            raise CohortError(
                f"mixed axes: in {scan.where} {self._difference(scan.mz, self.points)}; give "
                "START:STOP:STEP to bring both onto one"
            )
        return scan.intensity

    def covered(self, scan: RawScan) -> np.ndarray:
        """All of the scan's points, bool [n]."""
        return np.ones(scan.points, dtype=bool)

    def empty_bins(self, scan: RawScan) -> int:
        """None is empty."""
        return 0

    def _difference(self, axis: np.ndarray, points: np.ndarray) -> str:
        if len(axis) != len(points):
            return f"the axis has {len(axis)} points, that of {self._first} {len(points)}"
        at = int(np.argmax(axis != points))
        return f"point {at} is {axis[at]:.10g}, that of {self._first} is {points[at]:.10g}"

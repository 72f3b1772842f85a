"""Transforms that change the axis: a part of it, or other points on it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from datasets.errors import UsageError
from datasets.messages import Message
from datasets.specs import require_number, require_whole

# An axis that reaches its end up to rounding has a last point there.
ROUNDING = 1e-6
# 4 GB per thousand scans; more is a typing error.
MAX_POINTS = 10**6


def require_axis(name: str, axis: np.ndarray | None, scans: np.ndarray) -> np.ndarray:
    """The transform's axis, [L]; an error where it has none, or scans have other points."""
    if axis is None:
        raise RuntimeError(f"{name} is called before it was given the axis: Compose.fit(.., axis=)")
    if scans.shape[-1] != len(axis):
        raise UsageError(
            f"{name} was given an axis of {len(axis)} points; these spectra have {scans.shape[-1]}"
        )
    return axis


class Crop:
    """Keep the points between two positions on the axis, both included.

    ``low`` and ``high`` are in the axis's unit (m/z, wavenumber); None keeps that end.

    Example:
        >>> crop = Crop(low=2000, high=3000)
        >>> crop.set_axis(np.array([1000.0, 2000.0, 2500.0, 4000.0])).tolist()
        [2000.0, 2500.0]
        >>> crop(np.array([[1, 2, 3, 4]], dtype=np.float32)).tolist()
        [[2.0, 3.0]]
    """

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        if low is None and high is None:
            raise UsageError("crop: low, high or both were expected, in the unit of the axis")
        self.low = -math.inf if low is None else require_number("crop.low", low, -math.inf)
        self.high = math.inf if high is None else require_number("crop.high", high, -math.inf)
        if not self.low < self.high:
            raise UsageError(f"crop.high: a number above low, {low:g}, was expected, not {high!r}")
        self._axis: np.ndarray | None = None
        self._kept = slice(0)

    def set_axis(self, axis: np.ndarray) -> np.ndarray:
        """Set the axis, [L]; returns the part that is kept, or UsageError where none is."""
        start = int(np.searchsorted(axis, self.low, side="left"))
        stop = int(np.searchsorted(axis, self.high, side="right"))
        if start >= stop:
            raise UsageError(
                f"crop: no point of the axis, {axis[0]:g} to {axis[-1]:g}, lies between "
                f"{self.low:g} and {self.high:g}"
            )
        self._axis, self._kept = axis, slice(start, stop)
        return axis[self._kept].copy()

    @property
    def outside_text(self) -> str:
        """Message on an axis that ends within the crop."""
        axis = np.zeros(1) if self._axis is None else self._axis
        low = {} if math.isinf(self.low) else {" from {}": self.low}
        high = {} if math.isinf(self.high) else {" to {}": self.high}
        return Message(
            f"do not reach{''.join(low | high)}, as crop asks for: their axis goes from {{}} to "
            "{}",
            *(f"{end:g}" for end in (*low.values(), *high.values(), axis[0], axis[-1])),
        )

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which scans of [..., L] end within the kept part, by more than a step, [..., 1]."""
        axis = require_axis("crop", self._axis, scans).astype(np.float64)
        first, last = np.diff(axis[:2]).sum(), np.diff(axis[-2:]).sum()
        ends_low = self.low > -math.inf and self.low < axis[0] - first
        ends_high = self.high < math.inf and self.high > axis[-1] + last
        return np.full((*scans.shape[:-1], 1), ends_low or ends_high)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Cut scans, [..., L]."""
        require_axis("crop", self._axis, scans)
        return scans[..., self._kept].copy()


class Resample:
    """Resample scans to evenly spaced points, from the axis's first to its last.

    Either to ``points`` of them, or ``step`` apart, in the axis's unit. Where the new points are
    closer than the old ones, values are interpolated linearly. Where they are farther apart, each
    is the mean of the interpolated line over its half-steps: peaks between the points are not lost,
    and their areas stay.

    Example:
        >>> resample = Resample(points=3)
        >>> resample.set_axis(np.array([0.0, 1.0, 2.0, 3.0, 4.0])).tolist()
        [0.0, 2.0, 4.0]
        >>> resample(np.array([[0, 8, 0, 0, 0]], dtype=np.float32)).tolist()
        [[4.0, 2.0, 0.0]]
    """

    def __init__(self, points: int | None = None, step: float | None = None) -> None:
        if (points is None) == (step is None):
            raise UsageError("resample: either points or step was expected")
        self.points = (
            None if points is None else require_whole("resample.points", points, 2, MAX_POINTS)
        )
        self.step = None if step is None else require_number("resample.step", step)
        if self.step == 0:
            raise UsageError("resample.step: a number above 0 was expected, not 0")
        self._axis: np.ndarray | None = None
        self._weights: Any = None

    def set_axis(self, axis: np.ndarray) -> np.ndarray:
        """Set the axis, [L]; returns the new points, or UsageError for too few or too many."""
        old = np.asarray(axis, dtype=np.float64)
        extent = float(old[-1] - old[0])
        if len(old) < 2:
            raise UsageError("resample: an axis of at least 2 points was expected, not of 1")
        count = self.points or math.floor(extent / (self.step or 1) + ROUNDING) + 1
        if not 2 <= count <= MAX_POINTS:
            raise UsageError(
                f"resample.step: a number between {extent / (MAX_POINTS - 1):g} and {extent:g}, "
                f"the length of the axis, was expected, not {self.step:g}"
            )
        step = extent / (count - 1) if self.step is None else self.step
        new = np.minimum(old[0] + step * np.arange(count), old[-1])
        kept = new.astype(np.result_type(axis, np.float32))
        if not (np.diff(kept) > 0).all():
            raise UsageError(f"resample: steps of {step:g} are too small for {kept.dtype} axes")
        self._axis, self._weights = axis, _weights(old, new)
        return kept

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Resample scans, [..., L]."""
        require_axis("resample", self._axis, scans)
        rows = np.ascontiguousarray(scans.reshape(-1, scans.shape[-1]).T)  # [L, n]
        new = np.ascontiguousarray((self._weights @ rows).T, dtype=np.float32)
        return new.reshape(*scans.shape[:-1], new.shape[1])


def _weights(old: np.ndarray, new: np.ndarray) -> Any:
    """Weight of each old point in each new one, sparse [L_new, L_old]; axes are float64."""
    from scipy.sparse import csr_array

    halves = (new[1:] + new[:-1]) / 2
    edges = np.concatenate([new[:1], halves, new[-1:]])  # of the stretch of each new point
    # Between all cuts the scan is linear, and its mean is its value in the middle.
    cuts = np.unique(np.concatenate([edges, old[(old > new[0]) & (old < new[-1])]]))
    middles, widths = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    owner = np.clip(np.searchsorted(edges, middles, side="right") - 1, 0, len(new) - 1)
    shares = widths / np.diff(edges)[owner]
    # Closer than the old ones: the straight line's value.
    spacing = np.diff(old)[_interval(old, new)]
    steps = np.minimum(np.diff(new, prepend=-np.inf), np.diff(new, append=np.inf))
    closer = steps <= spacing * (1 + ROUNDING)
    averaged = ~closer[owner]
    places = np.concatenate([middles[averaged], new[closer]])
    rows = np.concatenate([owner[averaged], np.flatnonzero(closer)])
    shares = np.concatenate([shares[averaged], np.ones(closer.sum())])

    left = _interval(old, places)
    part = (places - old[left]) / (old[left + 1] - old[left])
    values = np.concatenate([shares * (1 - part), shares * part])
    shape = (len(new), len(old))
    return csr_array((values, (np.tile(rows, 2), np.concatenate([left, left + 1]))), shape=shape)


def _interval(old: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(old, places, side="right") - 1, 0, len(old) - 2)

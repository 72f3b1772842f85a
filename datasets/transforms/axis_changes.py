"""Transforms that change the axis: a part of it, or other points on it."""

import math

import numpy as np

from datasets.errors import UsageError
from datasets.messages import Message
from datasets.specs import require_number, require_range, require_whole

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
    """Keep the points between two positions on the axis, both included; None keeps that end."""

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
        given = [(" from {}", self.low), (" to {}", self.high)]
        given = [(words, end) for words, end in given if not math.isinf(end)]
        asked = "".join(words for words, _ in given)
        return Message(
            f"do not reach{asked}, as crop asks for: their axis goes from {{}} to {{}}",
            *(f"{end:g}" for end in (*(end for _, end in given), axis[0], axis[-1])),
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


class Bin:
    """Replace every ``width`` neighbouring points by their mean, at their mean place on the axis.

    Where the points are no multiple of ``width``, the last mean is over those that remain.
    """

    def __init__(self, width: int = 3) -> None:
        self.width = require_whole("bin.width", width, 1, MAX_POINTS)
        self._points = 0

    def set_axis(self, axis: np.ndarray) -> np.ndarray:
        """Set the axis, [L]; returns the means of its points, or UsageError where L < width."""
        if len(axis) < self.width:
            raise UsageError(
                f"bin: an axis of at least {self.width} points was expected, not of {len(axis)}"
            )
        self._points = len(axis)
        return self._average(axis).astype(np.result_type(axis, np.float32))

    def describe(self) -> str:
        """How many points the last mean is over, where they are fewer."""
        rest = self._points % self.width
        if not rest:
            return Message("bin: each point is the mean of {}", self.width)
        return Message("bin: each point is the mean of {}, the last one of {}", self.width, rest)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Average scans, [..., L]."""
        return self._average(scans).astype(np.float32)

    def _average(self, values: np.ndarray) -> np.ndarray:
        """Of [..., L], float64."""
        points = values.shape[-1]
        starts = np.arange(0, points, self.width)
        sums: np.ndarray = np.add.reduceat(values, starts, axis=-1, dtype=np.float64)
        return sums / np.diff(starts, append=points)


class AxisMap:
    """Takes scans from the points of one axis to those of another that lies within it.

    ``old`` and ``new`` are strictly increasing, [L] and [M], float64. Points closer than the old
    ones are interpolated linearly; of those farther apart each is the mean of the interpolated line
    over its half-steps: no peak is lost, and areas stay.
    """

    def __init__(self, old: np.ndarray, new: np.ndarray) -> None:
        # Of an old point the wider of its two sides, so that the old points stay as they are.
        spacing = np.max(
            [
                np.diff(old)[np.clip(np.searchsorted(old, new, side) - 1, 0, len(old) - 2)]
                for side in ("left", "right")
            ],
            axis=0,
        )
        steps = np.minimum(np.diff(new, prepend=-np.inf), np.diff(new, append=np.inf))
        self._closer = steps <= spacing * (1 + ROUNDING)
        self._edges = np.concatenate([new[:1], (new[1:] + new[:-1]) / 2, new[-1:]])
        self._old, self._new = old, new

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Scans [..., L] as [..., M], float32."""
        from scipy.interpolate import make_interp_spline  # slow to import

        line = make_interp_spline(self._old, scans.astype(np.float64), k=1, axis=-1)
        areas = np.diff(line.antiderivative()(self._edges), axis=-1)
        resampled = np.where(self._closer, line(self._new), areas / np.diff(self._edges))
        return resampled.astype(np.float32)


class Resample:
    """Resample scans to evenly spaced points, from the axis's first to its last.

    Either to ``points`` of them, or ``step`` apart, in the axis's unit; :class:`AxisMap` tells how.
    """

    def __init__(self, points: int | None = None, step: float | None = None) -> None:
        if (points is None) == (step is None):
            raise UsageError("resample: either points or step was expected")
        self.points: int | None = None
        self.step: float | None = None
        if points is not None:
            self.points = require_whole("resample.points", points, 2, MAX_POINTS)
        else:
            self.step = require_range("resample.step", step, 0.0, math.inf, open_low=True)
        self._axis: np.ndarray | None = None
        self._map: AxisMap | None = None

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
        step = self.step or extent / (count - 1)
        new = np.minimum(old[0] + step * np.arange(count), old[-1])
        kept = new.astype(np.result_type(axis, np.float32))
        if not (np.diff(kept) > 0).all():
            raise UsageError(f"resample: steps of {step:g} are too small for {kept.dtype} axes")
        self._axis, self._map = axis, AxisMap(old, new)
        return kept

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Resample scans, [..., L]."""
        require_axis("resample", self._axis, scans)
        assert self._map is not None
        return self._map(scans)

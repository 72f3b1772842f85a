"""Random changes along the axis, and smooth random curves."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from datasets.specs import require_number, require_whole

# The axis is compressed to no less than a tenth, so that points keep their order.
MOST_PRESSED = 0.9


def random_waves(scans: int, points: int, waves: int, rng: np.random.Generator) -> np.ndarray:
    """Sums of ``waves`` cosines of 0.5, 1, 1.5, ... periods over the axis, of normal random sizes.

    Returns:
        float64 [scans, points], of a mean square of 1 on average.
    """
    sizes = rng.standard_normal((scans, waves))
    curves = np.zeros((scans, points))
    # Not one matrix product, whose last bit depends on the number of threads.
    for size, cosine in zip(sizes.T, _cosines(points, waves), strict=True):
        curves += size[:, None] * cosine
    return curves


@lru_cache(maxsize=8)
def _cosines(points: int, waves: int) -> np.ndarray:
    """The cosines, scaled, [waves, L]."""
    periods = np.arange(1, waves + 1)[:, None] * np.linspace(0, np.pi, points)
    cosines: np.ndarray = np.cos(periods) * np.sqrt(2 / waves)
    cosines.setflags(write=False)
    return cosines


class AxisShift:
    """Shift each scan along the axis, as a calibration error does.

    The shift is uniform, in fractions of a point (linear interpolation); the points at the ends are
    repeated.

    Args:
        max_points: Largest shift to either side, in points.
    """

    def __init__(self, max_points: float = 2.0) -> None:
        self.max_points = require_number("axis_shift.max_points", max_points)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        shifts = rng.uniform(-self.max_points, self.max_points, len(scans))
        return shift_scans(scans, shifts)


class AxisWarp:
    """Shift each scan by an amount that varies along the axis; points keep their order.

    The shift is a smooth random curve (linear interpolation); its largest size is uniform up to
    ``max_points``. The points at the ends are repeated.

    Args:
        max_points: Largest shift to either side, in points.
        waves: How often the shift changes along the axis, in half periods; the more, the rougher.
    """

    def __init__(self, max_points: float = 2.0, waves: int = 3) -> None:
        self.max_points = require_number("axis_warp.max_points", max_points)
        self.waves = require_whole("axis_warp.waves", waves, 1)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        shifts = random_waves(len(scans), scans.shape[1], self.waves, rng)
        largest = np.maximum(np.abs(shifts).max(axis=1, keepdims=True), np.finfo(float).tiny)
        shifts *= rng.uniform(0, self.max_points, (len(scans), 1)) / largest
        pressed = (-np.diff(shifts)).max(axis=1, keepdims=True, initial=0.0)
        shifts *= MOST_PRESSED / np.maximum(pressed, MOST_PRESSED)
        points = np.arange(scans.shape[1])
        warped = np.empty_like(scans, dtype=np.float32)
        for source, target, shift in zip(scans, warped, shifts, strict=True):
            target[:] = np.interp(points + shift, points, source)
        return warped


def shift_scans(scans: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Move each scan, float32 [S, L], towards the end of the axis by its own number of points, [S].

    Fractions are interpolated linearly; the first and the last point are repeated.

    Example:
        >>> shift_scans(np.array([[0, 4, 8]], dtype=np.float32), np.array([0.25])).tolist()
        [[0.0, 3.0, 7.0]]
    """
    count, points = scans.shape
    # A shift by L points leaves the end point only: more makes no difference.
    shifts = np.clip(shifts, -points, points)
    margin = int(np.ceil(np.abs(shifts).max(initial=0.0))) + 1
    padded = np.empty((count, points + 2 * margin), dtype=np.float32)
    padded[:, :margin] = scans[:, :1]
    padded[:, margin : margin + points] = scans
    padded[:, margin + points :] = scans[:, -1:]
    shifted = np.empty_like(scans, dtype=np.float32)
    for source, target, shift in zip(padded, shifted, shifts, strict=True):
        whole = int(np.floor(shift))
        fraction = np.float32(shift - whole)
        start = margin - whole
        near, far = source[start : start + points], source[start - 1 : start - 1 + points]
        np.subtract(far, near, out=target)
        target *= fraction
        target += near
    return shifted

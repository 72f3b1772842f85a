"""Baseline removal and smoothing, one scan at a time.

Two points are always on a straight line: scans of fewer than three are nothing but baseline.
"""

import numpy as np

from datasets.errors import UsageError
from datasets.messages import Message
from datasets.specs import require_number, require_whole

FEWEST_POINTS = 3
# Scans of some thousand points that fit in a core's cache, twice as fast as from memory.
SCANS_AT_ONCE = 16
# Eilers and Boelens use p from 0.001 to 0.1 and lam from 1e2 to 1e9; far outside of that the
# equations cannot be solved in double precision.
ASYMMETRY = (1e-4, 0.5)
SMOOTHEST = 1e10


class _Windowed:
    """Base of transforms with a window; ``setting`` is the parameter that sets its points."""

    setting: str
    window: int

    @property
    def outside_text(self) -> str:
        told = "are shorter than the window of {} points; give a smaller {}"
        return Message(told, self.window, self.setting)

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which scans of [..., L] are shorter than the window, [..., 1]."""
        return np.full((*scans.shape[:-1], 1), scans.shape[-1] < self.window)


class _HalfWindow(_Windowed):
    """Base of transforms with a window of ``2 * half_window + 1`` points."""

    def __init__(self, half_window: int = 40) -> None:
        self.half_window = require_whole(self.setting, half_window, 1)
        self.window = 2 * self.half_window + 1


class SNIP(_HalfWindow):
    """Statistics-sensitive non-linear iterative peak clipping.

    A point above the mean of its two neighbours at a distance of m points is cut down to that mean,
    for m from ``half_window`` down to 1: that is the baseline, nowhere above the scan.
    ``half_window`` is about the width of the widest peak at its foot, in points: smaller ones cut
    peaks, larger ones leave some of the baseline. It is limited to half the scan.

    Sources: Ryan et al. 1988, Nuclear Instruments and Methods B 34, 396-402; decreasing windows:
    Morhac and Matousek 2008, Applied Spectroscopy 62(1), 91-106. The same as
    `pybaselines.Baseline.snip(decreasing=True)`, many scans at once: ten times as fast.
    """

    setting = "snip.half_window"

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Subtract the baseline from scans, [..., L]."""
        rows = scans.reshape(-1, scans.shape[-1])
        left = np.empty(rows.shape, dtype=np.float32)
        for start in range(0, len(rows), SCANS_AT_ONCE):
            block = rows[start : start + SCANS_AT_ONCE].astype(np.float64)
            left[start : start + len(block)] = block - self._baseline(block)
        return left.reshape(scans.shape)

    def _baseline(self, scans: np.ndarray) -> np.ndarray:
        """Of float64 [n, L]."""
        widest = min(self.half_window, (scans.shape[1] - 1) // 2)
        if widest < 1:
            return scans
        clipped = _continue_ends(scans, widest)
        means = np.empty_like(clipped)
        for m in range(widest, 0, -1):
            mean, inner = means[:, m:-m], clipped[:, m:-m]
            np.add(clipped[:, : -2 * m], clipped[:, 2 * m :], out=mean)
            mean *= 0.5
            np.minimum(inner, mean, out=inner)
        return clipped[:, widest:-widest]


class TopHat(_HalfWindow):
    """Top-hat: subtract the morphological opening, the highest curve under which a box fits.

    ``half_window`` is half the box's width in points, about the width of the widest peak's foot.
    The same as `pybaselines.Baseline.tophat` for all scans at once (Perez-Pueyo et al. 2010,
    Applied Spectroscopy 64(6), 595-600).
    """

    setting = "tophat.half_window"

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Subtract the baseline from scans, [..., L]."""
        if scans.shape[-1] < FEWEST_POINTS:
            return np.zeros_like(scans)
        from scipy.ndimage import grey_opening

        box = (1,) * (scans.ndim - 1) + (self.window,)
        left: np.ndarray = scans - grey_opening(scans, box)
        return left


class AsLS:
    """Asymmetric least squares: a smooth curve with little weight on the points above it.

    ``lam`` is the smoothness, 1 to 1e10, which grows with the fourth power of the points that a
    bend spans; ``p`` the weight of the points above the curve, 1e-4 to 0.5, those below have 1 - p.
    Sources: Eilers 2004, Analytical Chemistry 76(2), 404-411; Eilers and Boelens 2005, "Baseline
    Correction with Asymmetric Least Squares Smoothing". Computed by `pybaselines`, a scan at a
    time: a thousand scans of 2,048 points take some seconds.
    """

    def __init__(self, lam: float = 1e6, p: float = 0.01, max_iter: int = 50) -> None:
        self.lam = require_number("asls.lam", lam, 1.0, SMOOTHEST)
        self.p = require_number("asls.p", p, *ASYMMETRY)
        self.max_iter = require_whole("asls.max_iter", max_iter, 1)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Subtract the baseline from scans, [..., L]."""
        if scans.shape[-1] < FEWEST_POINTS:
            return np.zeros_like(scans)
        from pybaselines import Baseline  # slow to import

        fitter = Baseline(np.arange(scans.shape[-1]), check_finite=False, assume_sorted=True)
        rows = scans.reshape(-1, scans.shape[-1])
        left = np.empty(rows.shape, dtype=np.float32)
        for row, kept in zip(rows.astype(np.float64), left, strict=True):
            baseline, _ = fitter.asls(row, self.lam, self.p, max_iter=self.max_iter)
            kept[:] = row - baseline
        return left.reshape(scans.shape)


def _continue_ends(scans: np.ndarray, width: int) -> np.ndarray:
    """Extend scans [n, L] at both ends by ``width`` points, along least-squares lines."""
    count, points = scans.shape
    continued = np.empty((count, points + 2 * width))
    continued[:, width:-width] = scans
    steps = np.arange(width) - (width - 1) / 2
    squares = float(np.square(steps).sum()) or 1.0  # through one point: a level line
    for ends, target, side in (
        (scans[:, :width], continued[:, :width], -width),
        (scans[:, -width:], continued[:, -width:], width),
    ):
        slope = (ends * steps).sum(axis=1, keepdims=True) / squares
        np.multiply(slope, steps + side, out=target)
        target += ends.mean(axis=1, keepdims=True)
    return continued


class SavitzkyGolay(_Windowed):
    """Savitzky-Golay smoothing: each point from a polynomial fitted to the points around it.

    ``window`` is odd, about a peak's width in points: wider ones flatten it. A scan continues at
    its end points. Source: Savitzky and Golay 1964, Analytical Chemistry 36(8), 1627-1639.
    """

    setting = "savgol.window"

    def __init__(self, window: int = 9, order: int = 2) -> None:
        self.window = require_whole("savgol.window", window, 3)
        if self.window % 2 == 0:
            near = f"{self.window - 1} or {self.window + 1}"
            raise UsageError(f"savgol.window: an odd number was expected, {near}, not {window}")
        self.order = require_whole("savgol.order", order, 0, self.window - 1)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Smooth scans, [..., L]."""
        from scipy.signal import savgol_filter  # slow to import

        # SciPy's default mode: its last bit depends on which scans are smoothed together.
        smoothed: np.ndarray = savgol_filter(scans, self.window, self.order, mode="nearest")
        return smoothed

"""Smoothing along the axis."""

from __future__ import annotations

import numpy as np

from datasets.errors import UsageError
from datasets.specs import require_whole


class SavitzkyGolay:
    """Savitzky-Golay smoothing: each point from a polynomial fitted to the points around it.

    Source: Savitzky and Golay 1964, Analytical Chemistry 36(8), 1627-1639; computed by
    `scipy.signal.savgol_filter`. Beyond its ends a scan goes on at its end point.

    Args:
        window: Points that each polynomial is fitted to; odd. About the width of a peak: wider
            ones flatten it.
        order: Of the polynomial; less than ``window``.

    Raises:
        UsageError: A parameter is out of its range.

    Example:
        >>> spike = np.array([[0, 0, 3, 0, 0]], dtype=np.float32)
        >>> SavitzkyGolay(window=3, order=1)(spike).round(3).tolist()
        [[0.0, 1.0, 1.0, 1.0, 0.0]]
    """

    def __init__(self, window: int = 9, order: int = 2) -> None:
        self.window = require_whole("savgol.window", window, 3)
        if self.window % 2 == 0:
            near = f"{self.window - 1} or {self.window + 1}"
            raise UsageError(f"savgol.window: an odd number was expected, {near}, not {window}")
        self.order = require_whole("savgol.order", order, 0, self.window - 1)

    @property
    def outside_text(self) -> str:
        """What a window longer than the scan means."""
        return f"are shorter than the window of {self.window} points; give a smaller savgol.window"

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which scans of [..., L] are shorter than the window, [..., 1]."""
        return np.full((*scans.shape[:-1], 1), scans.shape[-1] < self.window)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Smooth scans, [..., L]."""
        from scipy.signal import savgol_filter  # takes a second, which only its users should wait

        # Not the polynomials that SciPy fits to the ends by default: their last bit would depend
        # on which scans are smoothed together.
        smoothed: np.ndarray = savgol_filter(scans, self.window, self.order, mode="nearest")
        return smoothed

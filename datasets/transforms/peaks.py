"""Peaks: local maxima above a scan's noise."""

from __future__ import annotations

import numpy as np

from datasets.specs import require_number, require_whole

# Of a normal distribution, the standard deviation is so many median absolute deviations.
MAD_TO_STD = 1.4826


class PickPeaks:
    """Keep the peaks and set everything between them to zero; the axis stays.

    A peak is the largest point within ``half_window`` on either side, and more than ``snr`` times
    the scan's noise above its median; the noise is estimated by the median absolute deviation (Gibb
    and Strimmer 2012, MALDIquant, Bioinformatics 28, 2270-2271). Remove the baseline first: it
    would count as noise.

    Args:
        snr: Signal-to-noise ratio.
        half_window: In points; of two peaks that are closer, only the larger one is kept.
        width: Points that are kept on either side of each peak's top.

    Example:
        >>> scan = np.array([[0, 1, 0, 9, 4, 0, 1, 0]], dtype=np.float32)
        >>> PickPeaks(snr=3, half_window=2)(scan).tolist()
        [[0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0]]
    """

    def __init__(self, snr: float = 3.0, half_window: int = 5, width: int = 0) -> None:
        self.snr = require_number("pick_peaks.snr", snr)
        self.half_window = require_whole("pick_peaks.half_window", half_window, 1)
        self.width = require_whole("pick_peaks.width", width)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Keep the peaks of scans, [..., L]."""
        kept = find_peaks(scans, self.snr, self.half_window)
        if self.width:
            from scipy.ndimage import maximum_filter1d

            kept = maximum_filter1d(kept, 2 * self.width + 1, axis=-1, mode="constant")
        return np.where(kept, scans, np.float32(0))


def find_peaks(scans: np.ndarray, snr: float, half_window: int) -> np.ndarray:
    """Which points of scans [..., L] are peaks, as :class:`PickPeaks` defines them.

    The first point of a flat top is the peak; the first and the last point of a scan are none.
    """
    from scipy.ndimage import maximum_filter1d

    above = scans - np.median(scans, axis=-1, keepdims=True)
    noise = MAD_TO_STD * np.median(np.abs(above), axis=-1, keepdims=True)
    found: np.ndarray = scans == maximum_filter1d(scans, 2 * half_window + 1, axis=-1)
    found &= above > snr * noise
    found[..., 1:] &= scans[..., 1:] > scans[..., :-1]
    found[..., :1] = found[..., -1:] = False
    return found


def peak_tops(scans: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Tops of parabolas through three points each, in points, scan after scan; scans are [n, L]."""
    rows, points = np.nonzero(found)
    before, top, after = (scans[rows, points + step].astype(np.float64) for step in (-1, 0, 1))
    # A peak rises to its top, so that the curvature is never zero.
    tops: np.ndarray = points + 0.5 * (after - before) / (2 * top - before - after)
    return tops

"""Normalisations: each takes from a scan what only its overall intensity says."""

from __future__ import annotations

import numpy as np

from datasets.transforms.protocol import TINY

# Where most points are 0, as after peak picking, the median says nothing of the scan's scale.
SMALLEST_MEDIAN = 1e-3
NO_SIGNAL_TEXT = "hold no signal and stay as they are"


class TIC:
    """Total ion current: divide a scan by its mean absolute intensity.

    The mean instead of the sum, so that values stay around 1 whatever L is. For intensities that
    are never negative this is TIC normalisation times L (Deininger et al. 2011, Analytical and
    Bioanalytical Chemistry 401, 167-181); where a baseline subtraction left negative ones, the
    absolute value keeps the divisor away from zero. A scan without signal is left as it is.

    Example:
        >>> TIC()(np.array([[1, 3], [0, 0]], dtype=np.float32)).tolist()
        [[0.5, 1.5], [0.0, 0.0]]
    """

    outside_text = NO_SIGNAL_TEXT

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which scans of [..., L] hold no signal, [..., 1]."""
        return np.asarray(np.abs(scans).max(axis=-1, keepdims=True) < TINY)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Normalise scans, [..., L]."""
        return _divide(scans, np.abs(scans).mean(axis=-1, keepdims=True, dtype=np.float64))


class VectorNorm:
    """Vector normalisation: divide a scan by its Euclidean length, which becomes 1.

    A scan without signal is left as it is.

    Example:
        >>> VectorNorm()(np.array([[3, 4], [0, 0]], dtype=np.float32)).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """

    outside_text = NO_SIGNAL_TEXT

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which scans of [..., L] hold no signal, [..., 1]."""
        return np.asarray(np.abs(scans).max(axis=-1, keepdims=True) < TINY)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Normalise scans, [..., L]."""
        squares = np.square(scans, dtype=np.float64).sum(axis=-1, keepdims=True)
        return _divide(scans, np.sqrt(squares))


class MedianNorm:
    """Median normalisation: divide a scan by the median of its absolute intensities.

    Unlike the mean, the median does not follow a few large peaks (Gibb and Strimmer 2012,
    Bioinformatics 28, 2270-2271, offer it beside the total ion current). The divisor is at least
    a thousandth of the mean absolute intensity; a scan without signal is left as it is.

    Example:
        >>> MedianNorm()(np.array([[1, 2, 9], [0, 0, 0]], dtype=np.float32)).tolist()
        [[0.5, 1.0, 4.5], [0.0, 0.0, 0.0]]
    """

    outside_text = (
        "have a median of 0 and are divided by a thousandth of their mean; tic suits them"
    )

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which scans of [..., L] have a median of about 0, [..., 1]."""
        sizes = np.abs(scans)
        least = SMALLEST_MEDIAN * sizes.mean(axis=-1, keepdims=True, dtype=np.float64)
        return np.asarray(np.median(sizes, axis=-1, keepdims=True) <= least)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Normalise scans, [..., L]."""
        sizes = np.abs(scans)
        least = SMALLEST_MEDIAN * sizes.mean(axis=-1, keepdims=True, dtype=np.float64)
        return _divide(scans, np.maximum(np.median(sizes, axis=-1, keepdims=True), least))


class SNV:
    """Standard normal variate: each scan to mean 0 and standard deviation 1 over its points.

    Source: Barnes, Dhanoa and Lister 1989, Applied Spectroscopy 43(5), 772-777. A constant scan
    becomes zero.

    Example:
        >>> SNV()(np.array([[1, 3], [7, 7]], dtype=np.float32)).tolist()
        [[-1.0, 1.0], [0.0, 0.0]]
    """

    outside_text = "are constant and become 0"

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which scans of [..., L] are constant, [..., 1]."""
        low, high = scans.min(axis=-1, keepdims=True), scans.max(axis=-1, keepdims=True)
        return np.asarray(low == high)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Normalise scans, [..., L]."""
        # float64: the mean of a constant scan is exact there, and no square overflows.
        centred = scans.astype(np.float64)
        centred -= centred.mean(axis=-1, keepdims=True)
        std = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True))
        centred /= np.where(std > 0, std, 1.0)
        return centred.astype(np.float32)


def _divide(scans: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """Divide each scan, [..., L], by its own number, [..., 1], unless that is nothing."""
    divided: np.ndarray = scans / np.where(divisor < TINY, 1.0, divisor).astype(np.float32)
    return divided

"""Transforms that even out how much intensities vary: the larger a count, the more it does."""

from __future__ import annotations

import numpy as np

NEGATIVE_TEXT = "are negative and become 0; snv, vector and standardize take both signs"


class Sqrt:
    """Square root: evens out the variance of counts; negative intensities count as zero.

    Example:
        >>> Sqrt()(np.array([[4, -1]], dtype=np.float32)).tolist()
        [[2.0, 0.0]]
    """

    outside_text = NEGATIVE_TEXT

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which intensities of [..., L] are negative."""
        return np.asarray(scans < 0)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        clipped = np.maximum(scans, np.float32(0))
        return np.sqrt(clipped, out=clipped)


class Log1p:
    """Logarithm of 1 + intensity; negative intensities count as zero.

    Example:
        >>> Log1p()(np.array([[0, np.e - 1, -5]], dtype=np.float32)).round(3).tolist()
        [[0.0, 1.0, 0.0]]
    """

    outside_text = NEGATIVE_TEXT

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which intensities of [..., L] are negative."""
        return np.asarray(scans < 0)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        clipped = np.maximum(scans, np.float32(0))
        return np.log1p(clipped, out=clipped)

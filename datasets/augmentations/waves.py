"""Smooth random curves along the axis."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def random_waves(scans: int, points: int, waves: int, rng: np.random.Generator) -> np.ndarray:
    """Draw sums of cosines of 0.5, 1, 1.5, ... periods over the axis, of random sizes.

    Args:
        scans: How many curves, S.
        points: L.
        waves: How many cosines each is the sum of.
        rng: Source of the sizes, which are normally distributed.

    Returns:
        float64 [S, L], of a mean square of 1 on average.

    Example:
        >>> curves = random_waves(500, 100, 3, np.random.default_rng(0))
        >>> bool(abs(np.square(curves).mean() - 1) < 0.1)
        True
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

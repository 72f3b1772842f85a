"""Random shifts and stretches of single scans along the axis, in points."""

import numpy as np
from numpy.typing import NDArray


def draw_warp(
    n_scans: int, calibration_shift: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Each scan's shift, and its stretch at both ends, in points, float [n_scans, 2]."""
    return np.asarray(calibration_shift * rng.standard_normal((n_scans, 2)))


def displacement(
    warp: NDArray[np.float64], index: NDArray[np.float64], spec_len: int
) -> NDArray[np.float64]:
    """By how many points each scan moves what stands at each index of the axis, float [n, P].

    ``warp`` is float [n, 2]; ``index`` float [P], from 0 to ``spec_len`` - 1.
    """
    place = 2 * index / (spec_len - 1) - 1  # -1 at the first point, 1 at the last
    return np.asarray(warp[:, :1] + warp[:, 1:] * place)

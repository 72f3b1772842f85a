"""Random changes of a sample's scans, for training only, applied after the transforms.

Each is called with one sample's scans [S, L] (float32) and a random generator of its own, and
returns new scans; the sizes below are therefore in the units that the transforms leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from datasets.specs import Spec, build_each, require_number

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Noise:
    """Add white Gaussian noise.

    Args:
        std: Standard deviation, in units of the transformed intensity.

    Example:
        >>> scans = np.zeros((2, 4), dtype=np.float32)
        >>> Noise(0.1)(scans, np.random.default_rng(0)).shape
        (2, 4)
    """

    def __init__(self, std: float = 0.1) -> None:
        self.std = np.float32(require_number("noise.std", std))

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        noise = rng.standard_normal(scans.shape, dtype=np.float32)
        noise *= self.std
        noise += scans
        return noise


class Intensity:
    """Multiply each scan by a log-normal factor, whose median is 1.

    Args:
        std: Standard deviation of the factor's logarithm.

    Example:
        >>> scans = np.ones((2, 3), dtype=np.float32)
        >>> Intensity(0.0)(scans, np.random.default_rng(0)).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    def __init__(self, std: float = 0.1) -> None:
        self.std = np.float32(require_number("intensity.std", std))

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        factors = np.exp(self.std * rng.standard_normal((len(scans), 1), dtype=np.float32))
        return scans * factors


class AxisShift:
    """Shift each scan along the axis, as a calibration error does.

    The shift is uniform, in fractions of a point (linear interpolation); the points at the ends
    are repeated.

    Args:
        max_points: Largest shift to either side, in points.

    Example:
        >>> scans = np.array([[1, 2, 3]], dtype=np.float32)
        >>> AxisShift(0)(scans, np.random.default_rng(0)).tolist()
        [[1.0, 2.0, 3.0]]
    """

    def __init__(self, max_points: float = 2.0) -> None:
        self.max_points = require_number("axis_shift.max_points", max_points)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        shifts = rng.uniform(-self.max_points, self.max_points, len(scans))
        return shift_scans(scans, shifts)


def shift_scans(scans: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Move each scan towards the end of the axis by its own number of points.

    Args:
        scans: float32 [S, L].
        shifts: In points, [S]; negative towards the start, fractions by linear interpolation.

    Returns:
        float32 [S, L]; the first and the last point are repeated where the scan has moved away.

    Example:
        >>> shift_scans(np.array([[0, 4, 8]], dtype=np.float32), np.array([0.25])).tolist()
        [[0.0, 3.0, 7.0]]
    """
    count, points = scans.shape
    # Moved by L points, a scan is its end point throughout: more makes no difference.
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


class ScanDropout:
    """Leave out scans at random; one is always kept.

    List it first: what is left out needs no other change.

    Args:
        p: The chance of each scan to be left out.

    Example:
        >>> ScanDropout(1.0)(np.ones((5, 2), dtype=np.float32), np.random.default_rng(0)).shape
        (1, 2)
    """

    def __init__(self, p: float = 0.1) -> None:
        self.p = require_number("scan_dropout.p", p, 0.0, 1.0)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L], to [1..S, L]."""
        keep = rng.random(len(scans)) >= self.p
        if not keep.any():
            keep[rng.integers(len(scans))] = True
        return scans[keep]


AUGMENTATIONS: dict[str, type[Any]] = {
    "noise": Noise,
    "intensity": Intensity,
    "axis_shift": AxisShift,
    "scan_dropout": ScanDropout,
}


def make_augmentations(specs: Sequence[Spec]) -> list[Augmentation]:
    """Build augmentations by name.

    Args:
        specs: Each a key of ``AUGMENTATIONS``, a class, or ``{"name": ..., "params": {...}}``.

    Raises:
        UsageError: An unknown name or parameter, with the nearest valid one.

    Example:
        >>> [a.std.item() for a in make_augmentations([{"name": "noise", "params": {"std": 0.5}}])]
        [0.5]
    """
    return build_each("augmentation", AUGMENTATIONS, specs)

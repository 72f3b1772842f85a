"""Made-up scans, and any transform made ready for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from datasets.transforms import Compose, make_transforms

# What a transform cannot do without, or what makes it do something to small scans.
PARAMS: dict[str, dict[str, Any]] = {
    "savgol": {"window": 5},
    "snip": {"half_window": 4},
    "tophat": {"half_window": 3},
    "asls": {"lam": 100.0},
    "crop": {"low": 1000, "high": 1700},
    "resample": {"points": 7},
    "bin": {"width": 3},
    "align": {
        "reference": [1100, 1500, 1900],
        "max_shift": 6,
        "min_matches": 2,
        "snr": 0,
        "half_window": 1,
    },
    "pick_peaks": {"snr": 1, "half_window": 1, "width": 1},
}
# Where a shorter scan cannot be what the transform is for.
FEWEST_POINTS = {"resample": 2, "bin": 3, "align": 3}


def spectra(scans: int = 200, points: int = 30, seed: int = 0) -> np.ndarray:
    """Positive noise, float32 [scans, points]."""
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, 500.0, (scans, points)).astype(np.float32)


def make_axis(points: int) -> np.ndarray:
    """1000 to 2000, float32 [points]."""
    return np.linspace(1000, 2000, points).astype(np.float32)


def make(name: str) -> Compose:
    """One transform, with parameters that suit small scans."""
    return make_transforms([{"name": name, "params": PARAMS.get(name, {})}])


def ready(name: str, points: int) -> Compose:
    """One transform, given an axis of so many points and fitted where it learns."""
    return make(name).fit(spectra(points=points), axis=make_axis(points))


def peaks_at(axis: np.ndarray, width: float = 3.0) -> Callable[..., np.ndarray]:
    """Scans of Gaussian peaks: ``peaks_at(axis)(places, heights)`` is float32 [L]."""

    def draw(places: Any, heights: Any = 1.0) -> np.ndarray:
        heights = np.broadcast_to(heights, np.shape(places))
        scan = np.zeros(len(axis))
        for place, height in zip(places, heights, strict=True):
            scan += height * np.exp(-0.5 * ((axis - place) / width) ** 2)
        return scan.astype(np.float32)

    return draw

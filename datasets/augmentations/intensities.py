"""Random changes of intensities, and random choices of scans."""

from __future__ import annotations

import numpy as np

from datasets.augmentations.axis_changes import random_waves
from datasets.specs import require_choice, require_number, require_whole

FILLS = ("baseline", "zero")


class Noise:
    """Add white Gaussian noise.

    Args:
        std: Standard deviation, in units of the transformed intensity.
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
    """

    def __init__(self, std: float = 0.1) -> None:
        self.std = np.float32(require_number("intensity.std", std))

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        factors = np.exp(self.std * rng.standard_normal((len(scans), 1), dtype=np.float32))
        return scans * factors


class BaselineDrift:
    """Add to each scan a smooth random curve, like the rest of a baseline.

    The curve is a sum of cosines of 0.5, 1, 1.5, ... periods over the axis, of random sizes.

    Args:
        size: Root mean square of the curve on average, in units of the scan's own standard
            deviation over its points.
        waves: How many cosines; the more, the rougher.
    """

    def __init__(self, size: float = 0.1, waves: int = 4) -> None:
        self.size = require_number("baseline_drift.size", size)
        self.waves = require_whole("baseline_drift.waves", waves, 1)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        curves = random_waves(len(scans), scans.shape[1], self.waves, rng)
        spread = scans.std(axis=1, keepdims=True, dtype=np.float64)
        drifted: np.ndarray = (scans + self.size * spread * curves).astype(np.float32)
        return drifted


class PeakDropout:
    """Remove regions of the axis, peaks included, so that no single peak is relied upon.

    The axis is divided into regions from a random point on, and each is removed with the chance
    ``p``: the same ones of all scans of a sample, or another scan would show the peak.

    Args:
        p: The share of the axis that is removed on average.
        width: Of a region, in points; about that of a peak.
        fill: Its replacement: ``baseline``, the straight line between the region's ends, or
            ``zero``.
    """

    def __init__(self, p: float = 0.1, width: int = 20, fill: str = "baseline") -> None:
        self.p = require_number("peak_dropout.p", p, 0.0, 1.0)
        self.width = require_whole("peak_dropout.width", width, 1)
        self.fill = require_choice("peak_dropout.fill", fill, FILLS)
        self._along = np.arange(self.width, dtype=np.float32)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        points = scans.shape[1]
        starts = np.arange(-int(rng.integers(self.width)), points, self.width)
        changed = scans.copy()
        for start in starts[rng.random(len(starts)) < self.p].tolist():
            region = changed[:, max(start, 0) : start + self.width]
            if self.fill == "zero":
                region[:] = 0
            else:
                first, last, steps = region[:, :1], region[:, -1:], region.shape[1] - 1
                region[:] = first + (last - first) * (self._along[: steps + 1] / max(steps, 1))
        return changed


class ScanDropout:
    """Leave out scans at random; one is always kept. List it first to save work.

    Args:
        p: The chance of each scan to be left out.
    """

    def __init__(self, p: float = 0.1) -> None:
        self.p = require_number("scan_dropout.p", p, 0.0, 1.0)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L], to [1..S, L]."""
        keep = rng.random(len(scans)) >= self.p
        if not keep.any():
            keep[rng.integers(len(scans))] = True
        return scans[keep]


class ScanSampling:
    """Keep a random subset of the scans, drawn anew in each epoch; evaluation uses all of them.

    List it first to save work: it bounds the time and memory of samples with many scans.

    Args:
        most: How many scans are kept at most.
    """

    def __init__(self, most: int = 4) -> None:
        self.most = require_whole("scan_sampling.most", most, 1)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L], to [1..most, L], in their order."""
        if len(scans) <= self.most:
            return scans.copy()
        return scans[np.sort(rng.choice(len(scans), self.most, replace=False))]

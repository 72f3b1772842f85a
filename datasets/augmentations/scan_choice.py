"""Random choices of a sample's scans: no single scan, and no number of them, is relied upon."""

from __future__ import annotations

import numpy as np

from datasets.specs import require_number, require_whole


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


class ScanSampling:
    """Keep so many scans at most, others in each epoch; evaluation sees all of them.

    List it first: what is left out needs no other change. A batch of samples with many scans so
    takes no more time and memory than this.

    Args:
        most: How many scans are kept at most.

    Example:
        >>> ScanSampling(2)(np.ones((5, 3), dtype=np.float32), np.random.default_rng(0)).shape
        (2, 3)
    """

    def __init__(self, most: int = 4) -> None:
        self.most = require_whole("scan_sampling.most", most, 1)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L], to [1..most, L], in their order."""
        if len(scans) <= self.most:
            return scans.copy()
        return scans[np.sort(rng.choice(len(scans), self.most, replace=False))]

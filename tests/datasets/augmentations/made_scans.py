"""Made-up scans, and the generators that change them."""

from __future__ import annotations

import numpy as np


def scans(count: int = 4, points: int = 50) -> np.ndarray:
    """Uniform noise, float32 [count, points]."""
    return np.random.default_rng(1).random((count, points), dtype=np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    """A fresh generator."""
    return np.random.default_rng(seed)

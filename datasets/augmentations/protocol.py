"""What an augmentation is, and what one is that needs a second sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from datasets.batches import Sample

# A sample's scans [S, L] and a random generator of its own to new scans.
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@runtime_checkable
class PairAugmentation(Protocol):
    """An augmentation that is given a second sample, drawn from those of the same target."""

    def mix(self, sample: Sample, other: Sample, rng: np.random.Generator) -> Sample:
        """Change the sample.

        Args:
            sample: As the augmentations before this one left it.
            other: As the transforms left it; of the same target.
            rng: Of the sample's own.
        """
        ...

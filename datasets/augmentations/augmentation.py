"""Interfaces and short names of augmentations, and mixup of two samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from datasets.augmentations import AUGMENTATIONS
from datasets.batches import Sample
from datasets.specs import Spec, build_each, require_number

# A sample's scans [S, L] and its random generator to new scans.
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# Below this hardly anything is mixed, a thousandth of the samples.
SMALLEST_ALPHA = 1e-3


@runtime_checkable
class PairAugmentation(Protocol):
    """An augmentation that is given a second sample of the same target."""

    def mix(self, sample: Sample, other: Sample, rng: np.random.Generator) -> Sample:
        """Change a sample, given another one as the transforms left it."""
        ...


class Mixup:
    """Mix each sample with another one of its class: scans with scans, covariates with covariates.

    Each becomes ``share`` of its own and ``1 - share`` of the other's (Zhang et al. 2018, "mixup:
    Beyond Empirical Risk Minimization"); of several labels, the other one has the same set. Each
    scan is mixed with a random one of the other sample; ``share`` is one number per sample, at
    least a half. A sample whose target no other has stays as it is.

    Args:
        alpha: Of the Beta(alpha, alpha) distribution of ``share``, at least 0.001: the smaller, the
            less is mixed.

    Example:
        >>> ours = Sample(np.zeros((2, 3), np.float32), np.zeros(1, np.float32), 1, "a")
        >>> other = Sample(np.ones((1, 3), np.float32), np.ones(1, np.float32), 1, "b")
        >>> mixed = Mixup(alpha=1.0).mix(ours, other, np.random.default_rng(0))
        >>> mixed.spectra.shape, mixed.target, mixed.sample_id
        ((2, 3), 1, 'a')
        >>> bool(0 < mixed.spectra[0, 0] == mixed.tabular[0] <= 0.5)
        True
    """

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = require_number("mixup.alpha", alpha, SMALLEST_ALPHA)

    def mix(self, sample: Sample, other: Sample, rng: np.random.Generator) -> Sample:
        """Mix a sample with another one of the same target."""
        drawn = rng.beta(self.alpha, self.alpha)
        share = np.float32(max(drawn, 1 - drawn))
        rest = np.float32(1) - share
        partners = rng.integers(len(other.spectra), size=len(sample.spectra))
        return sample._replace(
            spectra=share * sample.spectra + rest * other.spectra[partners],
            tabular=share * sample.tabular + rest * other.tabular,
        )


def make_augmentations(specs: Sequence[Spec]) -> list[Augmentation | PairAugmentation]:
    """Build augmentations: keys of ``AUGMENTATIONS``, classes, or ``{"name": ..., "params": ...}``.

    Raises:
        UsageError: An unknown name or parameter, with the nearest valid one.

    Example:
        >>> [a.std.item() for a in make_augmentations([{"name": "noise", "params": {"std": 0.5}}])]
        [0.5]
    """
    return build_each("augmentation", AUGMENTATIONS, specs)

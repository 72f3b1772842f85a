"""The short names of the augmentations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets.augmentations.axis_changes import AxisShift, AxisWarp
from datasets.augmentations.intensities import BaselineDrift, Intensity, Noise, PeakDropout
from datasets.augmentations.mixup import Mixup
from datasets.augmentations.protocol import Augmentation, PairAugmentation
from datasets.augmentations.scan_choice import ScanDropout, ScanSampling
from datasets.specs import Spec, build_each

AUGMENTATIONS: dict[str, type[Any]] = {
    "noise": Noise,
    "intensity": Intensity,
    "baseline_drift": BaselineDrift,
    "axis_shift": AxisShift,
    "axis_warp": AxisWarp,
    "peak_dropout": PeakDropout,
    "scan_dropout": ScanDropout,
    "scan_sampling": ScanSampling,
    "mixup": Mixup,
}


def make_augmentations(specs: Sequence[Spec]) -> list[Augmentation | PairAugmentation]:
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

"""Random changes of a sample's scans, for training only, applied after the transforms.

Each is called with one sample's scans [S, L] (float32) and its own random generator, and returns
new scans; sizes are in units of the transformed intensities. An augmentation with ``mix`` is given
a second sample of the same class too.
"""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.augmentations.augmentation import (
        Augmentation,
        Mixup,
        PairAugmentation,
        make_augmentations,
    )
    from datasets.augmentations.axis_changes import AxisShift, AxisWarp, shift_scans
    from datasets.augmentations.intensities import (
        BaselineDrift,
        Intensity,
        Noise,
        PeakDropout,
        ScanDropout,
        ScanSampling,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)

AUGMENTATIONS = {
    "noise": "datasets.augmentations.intensities.Noise",
    "intensity": "datasets.augmentations.intensities.Intensity",
    "baseline_drift": "datasets.augmentations.intensities.BaselineDrift",
    "axis_shift": "datasets.augmentations.axis_changes.AxisShift",
    "axis_warp": "datasets.augmentations.axis_changes.AxisWarp",
    "peak_dropout": "datasets.augmentations.intensities.PeakDropout",
    "scan_dropout": "datasets.augmentations.intensities.ScanDropout",
    "scan_sampling": "datasets.augmentations.intensities.ScanSampling",
    "mixup": "datasets.augmentations.augmentation.Mixup",
}

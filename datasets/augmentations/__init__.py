"""Random changes of a sample's scans, for training only, applied after the transforms.

Each is called with one sample's scans [S, L] (float32) and a random generator of its own, and
returns new scans; what a size is in units of is therefore what the transforms leave. One that has
``mix`` instead is given another sample of the same class too.
"""

from datasets.augmentations.axis_changes import AxisShift, AxisWarp, shift_scans
from datasets.augmentations.catalogue import AUGMENTATIONS, make_augmentations
from datasets.augmentations.intensities import BaselineDrift, Intensity, Noise, PeakDropout
from datasets.augmentations.mixup import Mixup
from datasets.augmentations.protocol import Augmentation, PairAugmentation
from datasets.augmentations.scan_choice import ScanDropout, ScanSampling

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "AxisShift",
    "AxisWarp",
    "BaselineDrift",
    "Intensity",
    "Mixup",
    "Noise",
    "PairAugmentation",
    "PeakDropout",
    "ScanDropout",
    "ScanSampling",
    "make_augmentations",
    "shift_scans",
]

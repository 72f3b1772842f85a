"""Transforms of spectra: deterministic, one scan at a time, finite in and finite out.

Each is called with scans [..., L] (float32) and returns a new float32 array of that shape, or, if
it changes the axis, of the points that it says it leaves. What learns from the data (``align``,
``standardize``) is fitted on training scans only.
"""

from datasets.transforms.alignment import Align
from datasets.transforms.axis_changes import Crop, Resample
from datasets.transforms.baseline import SNIP, AsLS, TopHat
from datasets.transforms.catalogue import TRANSFORMS
from datasets.transforms.compose import Compose, make_transforms
from datasets.transforms.domain import OutOfDomain, find_out_of_domain
from datasets.transforms.normalisation import SNV, TIC, MedianNorm, VectorNorm
from datasets.transforms.peaks import PickPeaks
from datasets.transforms.protocol import AxisTransform, LearnedTransform, Transform
from datasets.transforms.smoothing import SavitzkyGolay
from datasets.transforms.stabilisation import Log1p, Sqrt
from datasets.transforms.standardize import Standardize

__all__ = [
    "SNIP",
    "SNV",
    "TIC",
    "TRANSFORMS",
    "Align",
    "AsLS",
    "AxisTransform",
    "Compose",
    "Crop",
    "LearnedTransform",
    "Log1p",
    "MedianNorm",
    "OutOfDomain",
    "PickPeaks",
    "Resample",
    "SavitzkyGolay",
    "Sqrt",
    "Standardize",
    "TopHat",
    "Transform",
    "VectorNorm",
    "find_out_of_domain",
    "make_transforms",
]

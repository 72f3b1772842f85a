"""The short names of the transforms."""

from __future__ import annotations

from typing import Any

from datasets.transforms.alignment import Align
from datasets.transforms.axis_changes import Crop, Resample
from datasets.transforms.baseline import SNIP, AsLS, TopHat
from datasets.transforms.normalisation import SNV, TIC, MedianNorm, VectorNorm
from datasets.transforms.peaks import PickPeaks
from datasets.transforms.smoothing import SavitzkyGolay
from datasets.transforms.stabilisation import Log1p, Sqrt
from datasets.transforms.standardize import Standardize

# Of two names for one class the last is the one that is saved.
TRANSFORMS: dict[str, type[Any]] = {
    "savgol": SavitzkyGolay,
    "snip": SNIP,
    "tophat": TopHat,
    "asls": AsLS,
    "tic": TIC,
    "snv": SNV,
    "vector": VectorNorm,
    "median": MedianNorm,
    "sqrt": Sqrt,
    "log": Log1p,
    "log1p": Log1p,
    "crop": Crop,
    "resample": Resample,
    "align": Align,
    "pick_peaks": PickPeaks,
    "standardize": Standardize,
}

"""Transforms of spectra: deterministic, one scan at a time, finite in and finite out.

Each is called with scans [..., L] (float32) and returns a new float32 array of that shape, or of
the points it leaves where it changes the axis. Transforms that learn (``align``, ``standardize``)
are fitted on training scans only.
"""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.transforms.alignment import Align
    from datasets.transforms.axis_changes import Crop, Resample
    from datasets.transforms.baseline import SNIP, AsLS, SavitzkyGolay, TopHat
    from datasets.transforms.compose import (
        AxisTransform,
        Compose,
        LearnedTransform,
        Transform,
        make_transforms,
    )
    from datasets.transforms.domain import OutOfDomain, find_out_of_domain
    from datasets.transforms.normalisation import (
        SNV,
        TIC,
        Log1p,
        MedianNorm,
        Sqrt,
        Standardize,
        VectorNorm,
    )
    from datasets.transforms.peaks import PickPeaks
else:
    __getattr__ = lazy_exports(__name__, __file__)

# Short name -> class. Of two names for one class the last is saved.
TRANSFORMS = {
    "savgol": "datasets.transforms.baseline.SavitzkyGolay",
    "snip": "datasets.transforms.baseline.SNIP",
    "tophat": "datasets.transforms.baseline.TopHat",
    "asls": "datasets.transforms.baseline.AsLS",
    "tic": "datasets.transforms.normalisation.TIC",
    "snv": "datasets.transforms.normalisation.SNV",
    "vector": "datasets.transforms.normalisation.VectorNorm",
    "median": "datasets.transforms.normalisation.MedianNorm",
    "sqrt": "datasets.transforms.normalisation.Sqrt",
    "log": "datasets.transforms.normalisation.Log1p",
    "log1p": "datasets.transforms.normalisation.Log1p",
    "crop": "datasets.transforms.axis_changes.Crop",
    "resample": "datasets.transforms.axis_changes.Resample",
    "align": "datasets.transforms.alignment.Align",
    "pick_peaks": "datasets.transforms.peaks.PickPeaks",
    "standardize": "datasets.transforms.normalisation.Standardize",
}

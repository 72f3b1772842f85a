"""Transforms of spectra: deterministic, one scan at a time, finite in and finite out.

Each is called with scans [..., L] (float32) and returns a new float32 array of that shape, or of
the points it leaves where it changes the axis. Transforms that learn (``align``, ``standardize``,
``clr``, ``log`` with a quantile) are fitted on training scans only.
"""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.transforms.axis_changes import AxisMap, Bin, Crop, Resample
    from datasets.transforms.baseline import SNIP, AsLS, SavitzkyGolay, TopHat
    from datasets.transforms.compose import (
        TRANSFORMS,
        Compose,
        OutOfDomain,
        Transform,
        find_out_of_domain,
        make_transforms,
    )
    from datasets.transforms.normalisation import (
        CLR,
        SNV,
        TIC,
        Log,
        MedianNorm,
        Sqrt,
        Standardize,
        VectorNorm,
    )
    from datasets.transforms.peaks import Align, PickPeaks
else:
    __getattr__ = lazy_exports(__name__, __file__)

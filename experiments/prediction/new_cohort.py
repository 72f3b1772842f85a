"""A cohort that a model can predict, and how its scans get onto the model's axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from datasets.cohort import Cohort
    from datasets.transforms import AxisMap


@dataclass(frozen=True)
class NewCohort:
    """A cohort whose samples a model can predict.

    ``axis_map`` brings its scans onto the model's axis, None where they are on it; ``absent`` are
    ``spectra`` or ``covariates`` that it lacks, or that the model does not read. ``targets`` are as
    in :class:`experiments.prediction.Predictions`; ``notes`` are lines on what was imputed,
    resampled or could not be checked.
    """

    cohort: Cohort
    axis_map: AxisMap | None = None
    absent: Sequence[str] = ()
    targets: np.ndarray | None = None
    notes: Sequence[str] = ()

"""Predictions of a trained model on new samples, and what stands around them."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.prediction.conformal import ConformalSets, calibrate_sets, fewest_groups
    from experiments.prediction.external_validation import Validation, validate
    from experiments.prediction.recalibration import calibration_in_the_large, calibration_slope
else:
    __getattr__ = lazy_exports(__name__, __file__)

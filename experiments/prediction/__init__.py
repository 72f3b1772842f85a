"""Predictions of a trained model on new samples, and what stands around them."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.prediction.conformal import ConformalSets, calibrate_sets, fewest_groups
else:
    __getattr__ = lazy_exports(__name__, __file__)

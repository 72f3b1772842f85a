"""Losses by name, their terms and their class weights."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.losses.class_balance import fill_balanced
    from engine.losses.classification import CrossEntropy, FocalLoss
    from engine.losses.contrastive import SupervisedContrastive
    from engine.losses.inputs import find_output, has_output, require_range
    from engine.losses.registry import FITTING, LOSSES, choose_loss
    from engine.losses.regression import HuberLoss
    from engine.losses.regularisers import OutputNorm
    from engine.losses.weighted import Term, WeightedLoss
else:
    __getattr__ = lazy_exports(__name__, __file__)

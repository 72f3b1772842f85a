"""Losses by name, their terms and their class weights."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.losses.contrastive import SupervisedContrastive
    from engine.losses.inputs import fill_balanced, find_output, has_output
    from engine.losses.per_sample import CrossEntropy, FocalLoss, HuberLoss, OutputNorm
    from engine.losses.registry import FITTING, LOSSES, choose_loss
    from engine.losses.weighted import Term, WeightedLoss
else:
    __getattr__ = lazy_exports(__name__, __file__)

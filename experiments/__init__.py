"""Composition root: configuration, command lines, stages and pages."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.enhanced_trainer import EnhancedTrainer
else:
    __getattr__ = lazy_exports(__name__, __file__)

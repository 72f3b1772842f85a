"""Other import paths of classes of `experiments`."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.enhanced_trainer import EnhancedTrainer
    from experiments.estimators import CohortArrays, ScanfireClassifier, ScanfireRegressor
else:
    __getattr__ = lazy_exports(__name__, __file__)

"""Estimators of scikit-learn's kind: a run's training behind ``fit`` and ``predict``."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.estimators.estimators import ScanfireClassifier, ScanfireRegressor
    from experiments.estimators.inputs import CohortArrays
else:
    __getattr__ = lazy_exports(__name__, __file__)

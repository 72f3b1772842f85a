"""Cross-validation: one run per fold, and their joint table."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.folds.fold_runs import cross_validate
else:
    __getattr__ = lazy_exports(__name__, __file__)

"""Cross-validation: all models on the same folds, a leaderboard, and what is recommended."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.folds.fold_plan import lean_settings
    from experiments.folds.fold_runs import cross_validate
    from experiments.folds.out_of_fold import FUSED_BASELINES, read_wide
    from experiments.folds.side_by_side import gpus, set_up_process
else:
    __getattr__ = lazy_exports(__name__, __file__)

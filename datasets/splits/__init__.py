"""Train, validation and test splits, and folds, that keep groups together."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.splits.folds import Folds, k_folds, leave_one_batch_out, leave_one_group_out
    from datasets.splits.split import (
        COLUMNS,
        SUBSETS,
        class_strata,
        hash_split,
        make_split,
        read_splits,
        stratified_group_split,
        write_splits,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)

"""Runs side by side, with paired intervals."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.comparison.comparison_figures import (
        metric_bars,
        overlaid_predictions,
        roc_curves,
    )
    from experiments.comparison.comparison_page import (
        comparison_text,
        write_comparison_files,
        write_run_comparison,
    )
    from experiments.comparison.family_runs import compare_families, run_all
    from experiments.comparison.run_comparison import compare_runs
else:
    __getattr__ = lazy_exports(__name__, __file__)

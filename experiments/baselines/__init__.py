"""Classical baselines beside a network: fit, leaderboard, verdict, files."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.baselines.choice import comparison_metric, model_losses, ranked
    from experiments.baselines.fit import (
        Baselines,
        baseline_outputs,
        choose_names,
        fit_baselines,
        start_baselines,
        stop_baselines,
    )
    from experiments.baselines.leaderboard import (
        Entry,
        Leaderboard,
        compare_run,
        compare_with_baselines,
        delong_fits,
        paired_difference,
    )
    from experiments.baselines.saved import load_baselines, save_baselines
    from experiments.baselines.text import (
        about_leaderboard,
        leaderboard_lines,
        leaderboard_rows,
        leaderboard_section,
        title_of,
        verdict,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)

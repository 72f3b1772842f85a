"""Bootstrap intervals, paired tests of models, calibration and thresholds."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.statistics.bootstrap import (
        BOOTSTRAP,
        CLOPPER_PEARSON,
        FEWEST_GROUPS,
        TOO_FEW,
        Interval,
        bootstrap_intervals,
        fewest_resamples,
        groups_of_rarest,
    )
    from engine.statistics.calibration import (
        HIGHEST,
        LOWEST,
        Calibration,
        Reliability,
        calibrate,
        calibration_in_the_large,
        calibration_slope,
        reliability,
    )
    from engine.statistics.fold_tests import (
        CORRECTED_T,
        bootstrap_p_values,
        corrected_interval,
        corrected_t_test,
    )
    from engine.statistics.paired_tests import (
        DeLong,
        McNemar,
        bootstrap_differences,
        delong_test,
        holm,
        mcnemar_test,
    )
    from engine.statistics.thresholds import (
        COUNTS,
        DEFAULT,
        RULES,
        OperatingPoint,
        check_demand,
        check_rule,
        choose_threshold,
        figures_at,
        operating_points,
        threshold_table,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)

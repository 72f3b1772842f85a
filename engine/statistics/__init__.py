"""Bootstrap intervals, DeLong, paired tests, calibration and thresholds."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.statistics.bootstrap import (
        BOOTSTRAP,
        CLOPPER_PEARSON,
        TOO_FEW,
        Interval,
        bootstrap_intervals,
        fewest_resamples,
    )
    from engine.statistics.calibration import HIGHEST, LOWEST, Calibration, Reliability, calibrate
    from engine.statistics.delong import DeLong, delong_interval, delong_test
    from engine.statistics.few_samples import FEWEST_GROUPS, groups_of_rarest
    from engine.statistics.paired_tests import McNemar, bootstrap_differences, holm, mcnemar_test
    from engine.statistics.threshold_rules import DEFAULT, RULES, check_demand, check_rule
    from engine.statistics.thresholds import (
        COUNTS,
        OperatingPoint,
        choose_threshold,
        figures_at,
        operating_points,
        threshold_table,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)

"""Metrics of an epoch, the tasks that they fit, and the outputs that they are computed from."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.metrics.attention_summary import (
        SWITCH,
        AttentionSummary,
        MeanWeights,
        ScanWeights,
        find_scan_axes,
        is_over_scans,
        showing_attention,
        summarise_attention,
    )
    from engine.metrics.custom import CustomMetric, custom_metric, custom_metrics, try_metric
    from engine.metrics.epoch_metrics import EpochMetrics
    from engine.metrics.functions import (
        BINS,
        METRICS,
        REGRESSION_METRICS,
        area_under_roc,
        average_precision,
        brier,
        expected_calibration_error,
        log_loss,
    )
    from engine.metrics.outputs import EpochOutputs, metric_value
    from engine.metrics.sample_statistics import SAMPLE_STATISTICS, attention_weights, scan_shares
    from engine.metrics.step_outputs import (
        TOTAL,
        OutputCollector,
        makes,
        order_of,
        rows_in_order,
        terms_of,
    )
    from engine.metrics.tasks import (
        CLASSES,
        LAST_EPOCH,
        RESERVED,
        TASKS,
        THRESHOLD,
        TIE_BREAK,
        UNDEFINED,
        Mode,
        Monitor,
        better_when,
        by_target,
        check_metrics,
        likeliest,
        split_target,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)

"""Live pages, formatted figures, console output and metric tables."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.reporting.external_loggers import ExternalLogger, epoch_values, require_package
    from engine.reporting.figure_format import (
        DIGITS,
        LARGEST_PLAIN,
        SHORT_DIGITS,
        SMALLEST_PLAIN,
        TOO_FEW_TEXT,
        bounds_text,
        figure_text,
        figure_texts,
        metric_message,
        p_text,
        share_text,
        with_bounds,
    )
    from engine.reporting.metric_tables import (
        PLACE,
        TABLED,
        as_json,
        read_log,
        write_metrics_csv,
        write_metrics_json,
        write_text,
    )
    from engine.reporting.pages import (
        PLOTLY_CONFIG,
        LivePage,
        make_panels,
        page_template,
        plotly_js,
        render,
        render_plots,
    )
    from engine.reporting.results import Results
    from engine.reporting.terminal import safe_stdout, safe_streams
else:
    __getattr__ = lazy_exports(__name__, __file__)

"""The run's page: ``report/index.html``."""

from __future__ import annotations

import math
from pathlib import Path

import plotly.graph_objects as go
from markupsafe import Markup

from engine.files import write_whole
from engine.metric_tables import read_log
from engine.pages import PLOTLY_CONFIG, page_template, plotly_js
from experiments import figures
from experiments.outcome import Outcome

TEMPLATE = Path(__file__).parent / "templates" / "index.html.j2"
REPORT_NAME = "index.html"


def write_report(outcome: Outcome) -> Path:
    """Write ``report/index.html`` of a finished run and return its path."""
    data, config, test = outcome.data, outcome.config, outcome.outputs["test"]
    class_names = data.cohort.class_names
    epochs = [row for row in read_log(outcome.run_dir / "log.jsonl") if row["event"] == "epoch"]
    sections = [
        ("training", "Training", figures.training_curves(epochs)),
        ("ranking", "Test: ranking", figures.ranking_curves(test, class_names)),
        ("confusion", "Test: confusion matrix", figures.confusion(test, class_names)),
        ("scores", "Test: predicted probabilities", figures.score_histogram(test, class_names)),
    ]
    text = page_template(TEMPLATE).render(
        outcome=outcome,
        config=config,
        # The loss's terms stand in the curves; what a reader asks first are the metrics.
        headline=[
            (name, *(_figure(outcome.results[side][name]) for side in ("test", "val")))
            for name in ("loss", *config.metrics)
        ],
        sections=[(name, title, figure_div(name, figure)) for name, title, figure in sections],
        lines=data.describe(),
        settings=(outcome.run_dir / "config.yaml").read_text("utf-8"),
        plotly_js=plotly_js(),
    )
    folder = outcome.run_dir / "report"
    folder.mkdir(exist_ok=True)
    write_whole(text.encode(), folder, REPORT_NAME, durable=False)
    return folder / REPORT_NAME


def figure_div(name: str, figure: go.Figure) -> Markup:
    """A figure as an element of the page, without the library."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        font={"family": "system-ui, sans-serif"},
        legend={"orientation": "h", "yanchor": "top", "x": 0, "xanchor": "left"},
    )
    if figure.layout.legend.y is None:
        figure.update_layout(legend_y=-0.15)
    html: str = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=PLOTLY_CONFIG
    )
    return Markup(html)


def _figure(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"

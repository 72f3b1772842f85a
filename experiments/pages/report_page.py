"""The run's page: ``report/index.html``."""

from __future__ import annotations

import math
from pathlib import Path

from engine.files import write_whole
from engine.metric_tables import read_log
from engine.pages import page_template, plotly_js
from experiments.outcome import Outcome
from experiments.pages.figure_page import TEMPLATES, Section, figure_div
from experiments.pages.figures import training_curves
from experiments.pages.outcome_figures import outcome_sections

REPORT_NAME = "index.html"


def write_report(outcome: Outcome) -> Path:
    """Write ``report/index.html`` of a finished run and return its path."""
    data, config, test = outcome.data, outcome.config, outcome.outputs["test"]
    class_names = data.cohort.class_names
    epochs = [row for row in read_log(outcome.run_dir / "log.jsonl") if row["event"] == "epoch"]
    sections = [
        Section("training", "Training", training_curves(epochs)),
        *outcome_sections(test, class_names, "Test: "),
    ]
    text = page_template(TEMPLATES / "index.html.j2").render(
        outcome=outcome,
        config=config,
        # The loss's terms stand in the curves; what a reader asks first are the metrics.
        headline=[
            (
                name,
                _figure(outcome.results["test"][name]),
                outcome.interval_text(name),
                _figure(outcome.results["val"][name]),
            )
            for name in ("loss", *config.metrics)
        ],
        sections=[
            (part.name, part.heading, figure_div(part.name, part.figure)) for part in sections
        ],
        lines=data.describe(),
        settings=(outcome.run_dir / "config.yaml").read_text("utf-8"),
        plotly_js=plotly_js(),
    )
    folder = outcome.run_dir / "report"
    folder.mkdir(exist_ok=True)
    write_whole(text.encode(), folder, REPORT_NAME, durable=False)
    return folder / REPORT_NAME


def _figure(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"

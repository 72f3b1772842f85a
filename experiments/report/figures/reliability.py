"""Reliability diagrams: predicted probability against observed frequency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from engine.reporting import figure_text
from engine.statistics import Calibration
from experiments.report.figures.common import PALETTE
from experiments.report.figures.figure_page import Section
from experiments.report.figures.text import shown_name
from experiments.report.text import about_temperature

SIDES = (("as the model says it", PALETTE[1]), ("after temperature scaling", PALETTE[0]))
FIGURES = {"expected calibration error": "ece", "Brier score": "brier", "log loss": "log_loss"}
# In pixels, of a bin's mark.
SMALLEST, LARGEST = 5.0, 18.0


def reliability_section(calibration: Calibration, task: str, class_names: Sequence[str]) -> Section:
    """How often what was said with a probability was the case, before and after scaling.

    Args:
        calibration: Of a classification.
        task: Of the run.
        class_names: Of the classes or labels.
    """
    before, after = calibration.before, calibration.after
    text = (
        "On the diagonal a probability can be taken at its word; a larger mark stands for more "
        f"samples. The temperature that suits the validation side best is "
        f"{calibration.temperature:.3g}: {about_temperature(calibration)}. All other figures of "
        "this page are of the probabilities as the model says them."
    )
    rows = [
        (name, figure_text(getattr(before, key)), figure_text(getattr(after, key)))
        for name, key in FIGURES.items()
    ]
    table = [("", *(name for name, _ in SIDES)), *rows]
    figure = _figure(calibration, _said(task, class_names))
    return Section("reliability", "Reliability", figure, text, table)


def _said(task: str, class_names: Sequence[str]) -> str:
    """Which probability is looked at, as in the calibration error."""
    if task == "binary":
        return f"predicted probability of {shown_name(class_names[1])}"
    if task == "multilabel":
        return "predicted probability of a label"
    return "probability of the likeliest class"


def _figure(calibration: Calibration, said: str) -> go.Figure:
    figure = go.Figure()
    style = {"dash": "dot", "color": "grey", "width": 1}
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line=style, name="perfect", hoverinfo="skip"
    )
    for (name, colour), side in zip(SIDES, (calibration.before, calibration.after), strict=True):
        figure.add_scatter(
            x=side.confidence,
            y=side.share,
            customdata=side.count,
            mode="lines+markers",
            line={"color": colour, "width": 1},
            marker={"size": _sizes(side.count), "opacity": 0.85},
            name=name,
            hovertemplate="said %{x:.3f}, was %{y:.3f}, %{customdata} samples<extra></extra>",
        )
    figure.update_xaxes(title_text=said, range=[-0.03, 1.03], dtick=0.2, zeroline=False)
    figure.update_yaxes(
        title_text="how often it was the case", range=[-0.03, 1.03], dtick=0.2, zeroline=False
    )
    figure.update_layout(height=460, showlegend=True)
    return figure


def _sizes(count: np.ndarray) -> np.ndarray:
    """Of marks whose areas grow with the samples, none too small to be seen."""
    shares = np.sqrt(count / max(1, int(count.max(initial=0))))
    sizes: np.ndarray = SMALLEST + (LARGEST - SMALLEST) * shares
    return sizes

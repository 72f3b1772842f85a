"""Predictions against truth, for each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engine.metrics import EpochOutputs
from experiments.report.figures.classification import (
    about_unranked,
    confusion,
    ranking_curves,
    score_histogram,
)
from experiments.report.figures.figure_page import (
    GUIDE,
    LONGEST_ID,
    PALETTE,
    Section,
    add_diagonal,
    shown_name,
    shown_names,
)

ROW_HEIGHT = 400


def predicted_against_true(outputs: EpochOutputs, names: Sequence[str]) -> go.Figure:
    """One panel per target and one point per sample, with the diagonal."""
    titles = shown_names(names) if len(names) > 1 else None
    figure = make_subplots(len(names), 1, subplot_titles=titles)
    pairs = zip(outputs.target.numpy().T, outputs.predictions.numpy().T, strict=True)
    for row, (true, predicted) in enumerate(pairs, start=1):
        place = {"row": row, "col": 1}
        hover = "%{text}: true %{x:.4g}, predicted %{y:.4g}<extra></extra>"
        figure.add_scatter(
            x=true, y=predicted, name="sample", hovertemplate=hover, **_points(outputs), **place
        )
        add_diagonal(figure, true, predicted, showlegend=row == 1, **place)
    figure.update_xaxes(title_text="true")
    figure.update_yaxes(title_text="predicted")
    return figure.update_layout(height=ROW_HEIGHT * len(names))


def residuals(outputs: EpochOutputs, names: Sequence[str]) -> go.Figure:
    """Residuals over the predicted values, and their histogram."""
    figure = make_subplots(
        len(names),
        2,
        column_widths=[0.68, 0.32],
        shared_yaxes=True,
        horizontal_spacing=0.03,
        row_titles=shown_names(names) if len(names) > 1 else None,
    )
    pairs = zip(outputs.target.numpy().T, outputs.predictions.numpy().T, strict=True)
    for row, (true, predicted) in enumerate(pairs, start=1):
        missed = predicted - true
        hover = "%{text}: predicted %{x:.4g}, residual %{y:.4g}<extra></extra>"
        figure.add_scatter(
            x=predicted, y=missed, hovertemplate=hover, **_points(outputs), row=row, col=1
        )
        figure.add_histogram(
            y=missed,
            marker_color=PALETTE[0],
            opacity=0.7,
            hovertemplate="residual %{y}: %{x} samples<extra></extra>",
            showlegend=False,
            row=row,
            col=2,
        )
        figure.add_hline(y=0, line=GUIDE, row=row, col=1)
    figure.update_yaxes(title_text="predicted - true", col=1)
    figure.update_xaxes(title_text="predicted", row=len(names), col=1)
    figure.update_xaxes(title_text="samples", row=len(names), col=2)
    return figure.update_layout(height=ROW_HEIGHT * len(names))


def _points(outputs: EpochOutputs) -> dict[str, Any]:
    return {
        "text": [shown_name(name, LONGEST_ID) for name in outputs.sample_id],
        "mode": "markers",
        "marker": {"color": PALETTE[0], "opacity": 0.7},
        "showlegend": False,
    }


def outcome_sections(outputs: EpochOutputs, names: Sequence[str]) -> list[Section]:
    """Sections on how predictions and truth agree."""
    if outputs.task == "regression":
        against_true = predicted_against_true(outputs, names)
        return [
            Section("predictions", "Predicted against true", against_true),
            Section("residuals", "Residuals", residuals(outputs, names)),
        ]
    heading = "Each label" if outputs.task == "multilabel" else "Confusion matrix"
    undefined, curves = about_unranked(outputs, names), ranking_curves(outputs, names)
    return [
        Section("ranking", "Ranking", curves, undefined),
        Section("confusion", heading, confusion(outputs, names)),
        Section("scores", "Predicted probabilities", score_histogram(outputs, names)),
    ]

"""Predictions against truth, for each task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
    LONGEST_ID,
    PALETTE,
    Section,
    shown_name,
    shown_names,
)

ROW_HEIGHT = 400


def predicted_against_true(outputs: EpochOutputs, names: Sequence[str]) -> go.Figure:
    """One panel per target and one point per sample, with the diagonal."""
    predicted, true = outputs.predictions.numpy(), outputs.target.numpy()
    figure = _row_for_each(names)
    ids = [shown_name(name, LONGEST_ID) for name in outputs.sample_id]
    for number in range(len(names)):
        place = {"row": number + 1, "col": 1}
        figure.add_scatter(
            x=true[:, number],
            y=predicted[:, number],
            text=ids,
            mode="markers",
            marker={"color": PALETTE[0], "opacity": 0.7},
            name="sample",
            hovertemplate="%{text}: true %{x:.4g}, predicted %{y:.4g}<extra></extra>",
            showlegend=False,
            **place,
        )
        both = np.concatenate([true[:, number], predicted[:, number]])
        whole = both[np.isfinite(both)]
        ends = [float(whole.min()), float(whole.max())] if whole.size else [0.0, 1.0]
        figure.add_scatter(
            x=ends,
            y=ends,
            mode="lines",
            line={"dash": "dot", "color": "grey"},
            name="no error",
            showlegend=number == 0,
            hoverinfo="skip",
            **place,
        )
        figure.update_xaxes(title_text="true", **place)
        figure.update_yaxes(title_text="predicted", **place)
    return figure


def residuals(outputs: EpochOutputs, names: Sequence[str]) -> go.Figure:
    """Residuals over the predicted values, and their histogram."""
    predicted = outputs.predictions.numpy()
    missed = predicted - outputs.target.numpy()
    figure = make_subplots(
        len(names),
        2,
        column_widths=[0.68, 0.32],
        shared_yaxes=True,
        horizontal_spacing=0.03,
        row_titles=shown_names(names) if len(names) > 1 else None,
    )
    ids = [shown_name(name, LONGEST_ID) for name in outputs.sample_id]
    for number in range(len(names)):
        figure.add_scatter(
            x=predicted[:, number],
            y=missed[:, number],
            text=ids,
            mode="markers",
            marker={"color": PALETTE[0], "opacity": 0.7},
            hovertemplate="%{text}: predicted %{x:.4g}, residual %{y:.4g}<extra></extra>",
            showlegend=False,
            row=number + 1,
            col=1,
        )
        figure.add_histogram(
            y=missed[:, number],
            marker_color=PALETTE[0],
            opacity=0.7,
            hovertemplate="residual %{y}: %{x} samples<extra></extra>",
            showlegend=False,
            row=number + 1,
            col=2,
        )
        figure.add_hline(y=0, line={"dash": "dot", "color": "grey"}, row=number + 1, col=1)
        figure.update_yaxes(title_text="predicted - true", row=number + 1, col=1)
    figure.update_xaxes(title_text="predicted", row=len(names), col=1)
    figure.update_xaxes(title_text="samples", row=len(names), col=2)
    figure.update_layout(height=ROW_HEIGHT * len(names))
    return figure


def _row_for_each(names: Sequence[str]) -> go.Figure:
    titles = shown_names(names) if len(names) > 1 else None
    figure = make_subplots(len(names), 1, subplot_titles=titles)
    figure.update_layout(height=ROW_HEIGHT * len(names))
    return figure


def outcome_sections(outputs: EpochOutputs, names: Sequence[str], of: str = "") -> list[Section]:
    """Sections on how predictions and truth agree."""

    def heading(text: str) -> str:
        return f"{of}{text}" if of else text.capitalize()

    if outputs.task == "regression":
        return [
            Section(
                "predictions",
                heading("predicted against true"),
                predicted_against_true(outputs, names),
            ),
            Section("residuals", heading("residuals"), residuals(outputs, names)),
        ]
    what = "each label" if outputs.task == "multilabel" else "confusion matrix"
    return [
        Section(
            "ranking",
            heading("ranking"),
            ranking_curves(outputs, names),
            about_unranked(outputs, names),
        ),
        Section("confusion", heading(what), confusion(outputs, names)),
        Section("scores", heading("predicted probabilities"), score_histogram(outputs, names)),
    ]

"""The report's interactive figures, each from plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from engine.metrics import EpochOutputs
from handlers.training_curves import make_panels

# Colour-blind safe (Okabe and Ito 2008, "Color Universal Design").
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
SIDE_COLOURS = {"train": PALETTE[1], "val": PALETTE[0]}
PANEL_HEIGHT, PANELS_A_ROW = 260, 2


def training_curves(epochs: list[dict[str, Any]]) -> go.Figure:
    """Every metric over the epochs, training and validation in one panel.

    Args:
        epochs: Log rows with ``epoch`` and ``metrics`` (``train/loss``, ``val/loss``, ``lr``).
    """
    panels = make_panels(epochs)
    rows = -(-len(panels) // PANELS_A_ROW)
    figure = make_subplots(
        rows,
        PANELS_A_ROW,
        subplot_titles=[panel["title"] for panel in panels],
        vertical_spacing=0.28 / rows,
    )
    for number, panel in enumerate(panels):
        for line in panel["lines"]:
            figure.add_scatter(
                x=line["epochs"],
                y=line["values"],
                mode="lines" if len(line["epochs"]) > 1 else "markers",
                name=line["name"],
                legendgroup=line["side"],
                showlegend=number == 0,
                line={"color": SIDE_COLOURS.get(line["side"], PALETTE[2])},
                row=number // PANELS_A_ROW + 1,
                col=number % PANELS_A_ROW + 1,
            )
    figure.update_layout(height=PANEL_HEIGHT * rows, hovermode="x", legend={"y": -0.04})
    figure.update_xaxes(title_text="epoch", row=rows)
    return figure


def ranking_curves(outputs: EpochOutputs, class_names: Sequence[str]) -> go.Figure:
    """ROC and precision-recall curves, of the positive class or of each against the rest."""
    scores, target = outputs.probabilities.numpy(), outputs.target.numpy()
    figure = make_subplots(1, 2, subplot_titles=["ROC", "precision and recall"])
    first = 1 if len(class_names) == 2 else 0
    for number, name in enumerate(class_names[first:], start=first):
        positive = target == number
        if positive.all() or not positive.any():
            continue  # neither curve is defined where one side has no sample
        style = {"color": PALETTE[number % len(PALETTE)]}
        false_rate, true_rate, _ = roc_curve(positive, scores[:, number])
        precision, recall, _ = precision_recall_curve(positive, scores[:, number])
        common = {"mode": "lines", "line": style, "name": name, "legendgroup": name}
        figure.add_scatter(x=false_rate, y=true_rate, row=1, col=1, **common)
        figure.add_scatter(x=recall, y=precision, row=1, col=2, showlegend=False, **common)
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"dash": "dot", "color": "grey"},
        name="chance",
        row=1,
        col=1,
    )
    figure.update_xaxes(title_text="false positive rate", row=1, col=1)
    figure.update_yaxes(title_text="true positive rate", row=1, col=1)
    figure.update_xaxes(title_text="recall", row=1, col=2)
    figure.update_yaxes(title_text="precision", range=[0, 1.02], row=1, col=2)
    figure.update_layout(height=420)
    return figure


def confusion(outputs: EpochOutputs, class_names: Sequence[str]) -> go.Figure:
    """Counts of true against predicted class."""
    predicted = outputs.probabilities.argmax(dim=1).numpy()
    counts = confusion_matrix(outputs.target.numpy(), predicted, labels=np.arange(len(class_names)))
    names = list(class_names)
    figure = go.Figure(
        go.Heatmap(z=counts, x=names, y=names, texttemplate="%{z}", colorscale="Blues")
    )
    figure.update_traces(showscale=False, hovertemplate="true %{y}, predicted %{x}: %{z}")
    figure.update_xaxes(title_text="predicted", type="category")
    figure.update_yaxes(title_text="true", type="category", autorange="reversed")
    figure.update_layout(height=380)
    return figure


def score_histogram(outputs: EpochOutputs, class_names: Sequence[str]) -> go.Figure:
    """How the predicted probability of a class spreads over the samples of each true class."""
    shown = 1 if len(class_names) == 2 else int(outputs.target.mode().values)
    scores, target = outputs.probabilities[:, shown].numpy(), outputs.target.numpy()
    figure = go.Figure()
    for number, name in enumerate(class_names):
        figure.add_histogram(
            x=scores[target == number],
            name=f"true {name}",
            marker_color=PALETTE[number % len(PALETTE)],
            xbins={"start": 0, "end": 1, "size": 0.05},
        )
    figure.update_layout(barmode="overlay", height=380)
    figure.update_traces(opacity=0.6)
    figure.update_xaxes(title_text=f"predicted probability of {class_names[shown]}", range=[0, 1])
    figure.update_yaxes(title_text="samples")
    return figure

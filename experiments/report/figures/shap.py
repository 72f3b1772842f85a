"""The familiar summary of attributions: one row per feature, one point per sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from scipy.stats import rankdata

from datasets.messages import Message, sentences
from experiments.report.figures.figure_page import (
    LONGEST_ID,
    PALETTE,
    Section,
    list_names,
    shown_name,
    shown_names,
)

if TYPE_CHECKING:
    from experiments.report.figures.importance import Feature

MOST_ROWS, ROW_HEIGHT, FRAME = 20, 32, 120
# More points a row say no more; they are drawn at random.
MOST_POINTS = 300
# Places along a row in which points are heaped up, and the height of the highest heap, in rows.
BINS, HIGHEST = 80, 0.42
VALUES = [[0, PALETTE[0]], [0.5, "#b0b0b0"], [1, PALETTE[1]]]
LONGEST_NAME = 26


def summary_sections(
    features: Sequence[Feature], sample_id: Sequence[str], what: str, values: str, note: str
) -> list[Section]:
    """Sections with a point for each sample and feature, and with the features' means.

    ``what`` was explained, ``values`` names its attributions (``SHAP value``), ``note`` says how
    they were made.
    """
    if not features:
        return [Section("summary", "No features", text="No features were explained.")]
    shown = sorted(features, key=lambda feature: -feature.size)[:MOST_ROWS]
    samples = len(sample_id)
    drawn = np.sort(np.random.default_rng(0).permutation(samples)[:MOST_POINTS])
    text = [
        note,
        Message("One point per sample: the feature's contribution to {}.", what),
        Message("Colour: the rank of the feature's value among the samples."),
    ]
    if len(drawn) < samples:
        text.append(Message("Shown: a random {} of {} samples.", len(drawn), samples))
    ids = [shown_name(sample_id[i], LONGEST_ID) for i in drawn]
    return [
        Section("summary", "All samples", _points(shown, drawn, ids, values), sentences(*text)),
        Section("mean", "Mean magnitude", _bars(shown, values)),
    ]


def _points(
    features: Sequence[Feature], drawn: np.ndarray, ids: Sequence[str], values: str
) -> go.Figure:
    figure = go.Figure()
    largest = max(float(np.abs(feature.attributions).max()) for feature in features) or 1.0
    for row, feature in enumerate(features):
        x = feature.attributions[drawn]
        figure.add_scatter(
            x=x.astype(np.float32),
            y=(row + _heaped(x, largest)).astype(np.float32),
            text=ids,
            customdata=feature.values[drawn].astype(np.float32),
            mode="markers",
            marker={"size": 6, "color": _place(feature.values)[drawn], "coloraxis": "coloraxis"},
            name=shown_name(feature.name),
            hovertemplate="%{text}: %{x:.3g}, value %{customdata:.3g}"
            "<extra>%{fullData.name}</extra>",
        )
    figure.add_vline(x=0, line={"color": "grey", "width": 1})
    figure.update_xaxes(title_text=values, zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(features))),
        ticktext=shown_names([feature.name for feature in features], LONGEST_NAME),
        range=[len(features) - 0.5, -0.5],
        automargin=True,
        zeroline=False,
    )
    title = {"text": "feature's value", "side": "right"}
    bar = {"title": title, "tickvals": [0, 1], "ticktext": ["low", "high"], "thickness": 12}
    figure.update_layout(height=FRAME + ROW_HEIGHT * len(features), showlegend=False)
    colours = {"colorscale": VALUES, "cmin": 0, "cmax": 1, "colorbar": bar}
    return figure.update_layout(hovermode="closest", coloraxis=colours)


def _place(values: np.ndarray) -> np.ndarray:
    """The rank of each value, from 0 to 1; 0.5 where all are the same."""
    ranks = rankdata(values)
    low, high = ranks.min(), ranks.max()
    return np.full(len(values), 0.5) if high == low else (ranks - low) / (high - low)


def _heaped(x: np.ndarray, largest: float) -> np.ndarray:
    """The vertical offset of each point, so that points at one place do not overlap."""
    bins = np.round(x / largest * BINS).astype(int)
    offset = np.zeros(len(x))
    order = np.argsort(bins, kind="stable")
    _, first, counts = np.unique(bins[order], return_index=True, return_counts=True)
    for start, count in zip(first, counts, strict=True):
        steps = np.arange(count)
        offset[order[start : start + count]] = (steps + 1) // 2 * np.where(steps % 2, 1, -1)
    highest = np.abs(offset).max()
    return offset * min(HIGHEST / max(highest, 1), HIGHEST / 4)


def _bars(features: Sequence[Feature], values: str) -> go.Figure:
    names = shown_names([feature.name for feature in features], LONGEST_NAME)
    sizes = [feature.size for feature in features]
    figure = go.Figure(go.Bar(x=sizes, y=names, orientation="h", marker_color=PALETTE[0]))
    figure.update_traces(hovertemplate="%{y}: %{x:.3g}<extra></extra>")
    list_names(figure)
    figure.update_xaxes(title_text=f"mean |{values}|")
    return figure.update_layout(height=FRAME + 24 * len(features), showlegend=False)

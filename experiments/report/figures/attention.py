"""What a model attends to, drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch.nn import functional

from engine.metrics import AttentionSummary, MeanWeights, ScanWeights
from engine.reporting import figure_text
from experiments.report.figures.common import PALETTE
from experiments.report.figures.figure_page import Section
from experiments.report.figures.gates import is_gate
from experiments.report.figures.text import shown_names

# Larger matrices are averaged down: a screen shows no more, and a page would take megabytes.
MOST_CELLS = 96
MOST_BARS = 40
HEADS_A_ROW = 2
MATRIX_HEIGHT = 260
BAR_HEIGHT, FRAME = 24, 110
# Matrices stand beside each other.
LONGEST_NAME = 18
# With a tick at each number of scans up to so many.
MOST_TICKS = 20
NONE = (
    "The model returns no attention_weights. To have them drawn, return a dict of tensors [B, ...] "
    "under that name, such as the weight of each scan [B, S]."
)


def weight_sections(
    summary: AttentionSummary, covariate_names: Sequence[str] | None = None
) -> list[Section]:
    """A section for each kind of attention weights that the model returns, gates left out.

    Args:
        summary: Over the test samples.
        covariate_names: D names; None for their numbers.
    """
    sections = [
        Section(
            f"scans-{number}",
            f"{_words(name)}: over the scans of a sample",
            _spread_figure(weights),
            _spread_text(weights),
        )
        for number, (name, weights) in enumerate(summary.over_scans.items())
    ]
    for number, (name, weights) in enumerate(summary.means.items()):
        if is_gate(name):
            continue
        heading, mean = _words(name), weights.mean
        if mean.ndim == 1:
            figure = _bars(weights, covariate_names)
        elif mean.ndim in (2, 3):
            figure = _matrices(weights, covariate_names)
        else:
            continue
        which = ", of each scan over the samples that have it" if "scan" in weights.axes else ""
        text = f"Mean over {summary.samples} samples{which}."
        sections.append(Section(f"weights-{number}", heading, figure, text))
    if not (sections or summary.means):
        return [Section("none", "No attention", text=NONE)]
    return sections


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _spread_text(weights: ScanWeights) -> str:
    several = weights.scans > 1
    if not several.any():
        return "Every sample has one scan."
    effective, scans = weights.effective[several], weights.scans[several]
    return (
        f"Samples with several scans: {scans.double().mean():.2f} scans on average, effectively "
        f"{effective.mean():.2f} (exp of the entropy, mean "
        f"{figure_text(float(weights.entropy[several].mean()), 2)} nats; with equal weights "
        f"{scans.double().log().mean():.2f})."
    )


def _spread_figure(weights: ScanWeights) -> go.Figure:
    """Effective scans against scans, and how often each entropy occurs."""
    scans, effective = weights.scans.numpy(), weights.effective.numpy()
    figure = make_subplots(
        2, 1, subplot_titles=["effective number of scans", "entropy relative to equal weights"]
    )
    figure.add_box(
        x=scans,
        y=effective,
        marker_color=PALETTE[0],
        boxpoints="all",
        jitter=0.4,
        pointpos=0,
        name="samples",
        row=1,
        col=1,
    )
    most = int(scans.max())
    style = {"dash": "dot", "color": "grey"}
    figure.add_scatter(
        x=[1, most], y=[1, most], mode="lines", line=style, name="equal weights", row=1, col=1
    )
    several = scans > 1
    relative = weights.entropy.numpy()[several] / np.log(scans[several])
    figure.add_histogram(
        x=relative,
        xbins={"start": 0, "end": 1.05, "size": 0.05},
        marker_color=PALETTE[0],
        showlegend=False,
        row=2,
        col=1,
    )
    ticks = 1 if most <= MOST_TICKS else None
    figure.update_xaxes(title_text="scans of the sample", dtick=ticks, row=1, col=1)
    figure.update_yaxes(title_text="effective scans", row=1, col=1)
    figure.update_xaxes(title_text="entropy / log(scans)", range=[0, 1.05], row=2, col=1)
    figure.update_yaxes(title_text="samples", row=2, col=1)
    figure.update_layout(height=640, showlegend=True)
    return figure


def _labels(axis: str, size: int, covariate_names: Sequence[str] | None) -> list[str]:
    if axis == "covariate" and covariate_names is not None:
        return shown_names(covariate_names, LONGEST_NAME)
    return [f"{axis} {number + 1}" for number in range(size)]


def _bars(weights: MeanWeights, covariate_names: Sequence[str] | None) -> go.Figure:
    values, (axis,) = weights.mean.numpy(), weights.axes
    if len(values) > MOST_BARS and axis != "covariate":
        figure = go.Figure(go.Scatter(y=values, mode="lines", line={"color": PALETTE[0]}))
        figure.update_xaxes(title_text=axis)
        figure.update_yaxes(title_text="weight")
        figure.update_layout(height=320)
        return figure
    order = np.argsort(-values, kind="stable")[:MOST_BARS]
    names = _labels(axis, len(values), covariate_names)
    figure = go.Figure(
        go.Bar(
            x=values[order], y=[names[i] for i in order], orientation="h", marker_color=PALETTE[0]
        )
    )
    figure.update_xaxes(title_text="weight")
    figure.update_yaxes(type="category", autorange="reversed", automargin=True, dtick=1)
    figure.update_layout(height=FRAME + BAR_HEIGHT * len(order))
    return figure


def _matrices(weights: MeanWeights, covariate_names: Sequence[str] | None) -> go.Figure:
    """A heat map for each head; a matrix alone is one."""
    mean = weights.mean if weights.mean.ndim == 3 else weights.mean[None]
    axes = weights.axes[-2:]
    before = mean.shape[1:]
    smaller = min(before[0], MOST_CELLS), min(before[1], MOST_CELLS)
    if tuple(before) != smaller:
        mean = functional.adaptive_avg_pool2d(mean, smaller)
    heads = len(mean)
    columns = min(heads, HEADS_A_ROW)
    rows = -(-heads // columns)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[f"head {number + 1}" for number in range(heads)] if heads > 1 else None,
        shared_xaxes=True,
        shared_yaxes=True,
        vertical_spacing=0.1 / rows,
        horizontal_spacing=0.03,
    )
    names = [
        _labels(axis, size, covariate_names) if axis != "position" and size == small else None
        for axis, size, small in zip(axes, before, smaller, strict=True)
    ]
    for head, matrix in enumerate(mean.numpy()):
        place = {"row": head // columns + 1, "col": head % columns + 1}
        figure.add_heatmap(z=matrix, y=names[0], x=names[1], coloraxis="coloraxis", **place)
        if place["col"] == 1:
            figure.update_yaxes(title_text="" if names[0] else axes[0], **place)
        if heads - head <= columns:
            title = "" if names[1] else axes[1]
            figure.update_xaxes(title_text=title, automargin=True, showticklabels=True, **place)
    figure.update_annotations(font_size=12)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(
        height=MATRIX_HEIGHT * rows + (80 if names[1] else 0),
        # From zero, so that weights that are nearly equal look so.
        coloraxis={
            "colorscale": "Blues",
            "cmin": 0,
            "cmax": float(mean.max()),
            "colorbar": {"title": {"text": "weight", "side": "right"}, "thickness": 12},
        },
    )
    return figure

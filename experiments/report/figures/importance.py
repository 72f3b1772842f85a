"""What a model's scores rest on, drawn over the mean spectrum and for single features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from experiments.report.figures.common import PALETTE
from experiments.report.figures.explained_features import Attributions, Feature, speaks_for
from experiments.report.figures.figure_page import Section
from experiments.report.figures.report_input import ReportInput
from experiments.report.figures.text import shown_name, shown_names

# Further covariates are small and would not be legible.
MOST_BARS, MOST_ROWS = 30, 12
BAR_HEIGHT, FRAME = 24, 130
LONGEST_NAME = 26
# A screen shows no more points; neighbours are merged so that no peak is lost.
MOST_POINTS, MOST_BANDS = 8192, 400
SPECTRUM_COLOUR = "#7d8894"
# Blue lowers, orange raises; in between nothing, in light and in dark.
BAND = [[0, "rgba(0,114,178,1)"], [0.5, "rgba(128,128,128,0)"], [1, "rgba(213,94,0,1)"]]
WINDOW = "rgba(230, 159, 0, 0.22)"
PANELS = (0.62, 0.06, 0.32)
NEGATIVE_SHARE = (
    "A negative share is of contributions that go against the score, so that the others exceed it; "
    "how much they matter is told by the mean |attribution|."
)


def spectrum_section(
    found: Attributions, examined: ReportInput, lead: str, windows: Sequence[tuple[int, int]] = ()
) -> Section:
    """The mean spectrum with what its points say beneath it.

    Args:
        found: Of N samples.
        examined: Has the mean spectrum and the axis.
        lead: How the attributions were made, in a sentence.
        windows: To be marked: first point of each, and the one behind its last.
    """
    text = f"{lead} Attributions of {found.what}, over {len(found.points)} samples."
    shares = [found.share(part.sum(axis=1)) for part in (found.points, found.covariates)]
    if not np.isnan(shares).any():
        text += (
            f" Of the score's mean square the spectra account for {share_text(shares[0], 0)}, the "
            f"covariates for {share_text(shares[1], 0)}."
        )
        if min(shares) < 0:
            text += f" {NEGATIVE_SHARE}"
    if windows:
        text += f" Marked are the {len(windows)} windows that account for most of it."
    figure = spectrum_figure(found, examined, windows)
    return Section("points", "Mean spectrum and what its points say", figure, text)


def share_text(share: float, digits: int) -> str:
    """A share in percent; one that rounds to zero has no sign.

    Example:
        >>> share_text(-0.0001, 0), share_text(-0.12, 0)
        ('0%', '-12%')
    """
    return f"{round(share, digits + 2) + 0.0:.{digits}%}"


def spectrum_figure(
    found: Attributions, examined: ReportInput, windows: Sequence[tuple[int, int]] = ()
) -> go.Figure:
    """Mean spectrum, its attribution as a band of colour, and the same as curves."""
    assert examined.inputs is not None
    length = found.points.shape[1]
    starts = np.arange(0, length, -(-length // MOST_POINTS))
    places = np.arange(length) if examined.axis is None else np.asarray(examined.axis, float)
    x = np.add.reduceat(places, starts) / np.diff(np.append(starts, length))
    spectrum = np.maximum.reduceat(examined.inputs.spectrum, starts).astype(np.float32)
    signed = np.add.reduceat(found.points.mean(axis=0), starts).astype(np.float32)
    absolute = np.add.reduceat(np.abs(found.points).mean(axis=0), starts).astype(np.float32)
    figure = make_subplots(3, 1, shared_xaxes=True, row_heights=list(PANELS), vertical_spacing=0.03)
    line: dict[str, Any] = {"mode": "lines", "x": x}
    figure.add_scatter(
        y=spectrum,
        line={"color": SPECTRUM_COLOUR, "width": 1},
        name="mean spectrum",
        row=1,
        col=1,
        **line,
    )
    band, edges = _band(found.points.mean(axis=0), places)
    largest = float(np.abs(band).max()) or 1.0
    figure.add_heatmap(
        x=edges,
        z=band[None],
        zmin=-largest,
        zmax=largest,
        colorscale=BAND,
        showscale=False,
        hoverinfo="skip",
        row=2,
        col=1,
    )
    for name, values, colour, shown in (
        ("mean attribution, with sign", signed, PALETTE[1], True),
        ("mean |attribution|", absolute, PALETTE[0], "legendonly"),
    ):
        figure.add_scatter(
            y=values,
            line={"color": colour, "width": 1},
            name=name,
            visible=shown,
            row=3,
            col=1,
            **line,
        )
    # Half-way to the neighbours, so that one of a single point is seen, too.
    between = np.convolve(np.pad(places, 1, mode="edge"), [0.5, 0.5], mode="valid")
    # All at once: add_vrect takes longer for each than all else here.
    mark = {"type": "rect", "fillcolor": WINDOW, "line": {"width": 0}, "layer": "below"}
    figure.layout.shapes = [
        {
            **mark,
            **{"x0": float(between[start]), "x1": float(between[stop]), "y0": 0, "y1": 1},
            **{"xref": axes[0], "yref": f"{axes[1]} domain"},
        }
        for start, stop in windows
        for axes in (("x", "y"), ("x3", "y3"))
    ]
    name = "point" if examined.axis is None else shown_name(examined.axis_name)
    figure.update_xaxes(title_text=name, row=3, col=1)
    figure.update_yaxes(title_text=examined.inputs.intensity, row=1, col=1)
    figure.update_yaxes(
        showticklabels=False, showgrid=False, zeroline=False, ticks="", row=2, col=1
    )
    figure.update_yaxes(title_text="attribution", nticks=4, row=3, col=1)
    figure.update_yaxes(automargin=True)
    figure.update_layout(height=560, hovermode="x", showlegend=True)
    return figure


def _band(signed: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Attributions [L] summed to what a screen can show as colours, and where each begins."""
    starts = np.arange(0, len(signed), -(-len(signed) // MOST_BANDS))
    return np.add.reduceat(signed, starts).astype(np.float32), np.append(places[starts], places[-1])


def feature_section(
    name: str,
    heading: str,
    features: Sequence[Feature],
    examined: ReportInput,
    most: int = MOST_BARS,
) -> Section:
    """Bars and a table of features: how much they say, and what a higher value speaks for.

    Args:
        name: The section's.
        heading: Above it.
        features: Those that say most first.
        examined: Names the classes.
        most: Show so many.
    """
    shown, task, classes = features[:most], examined.outputs.task, examined.classes
    rows: list[Sequence[Any]] = [
        ("feature", "a higher value speaks", "mean |attribution|", "share", "rank correlation")
    ]
    for feature in shown[:MOST_ROWS]:
        correlation = feature.direction.rank_correlation
        rows.append(
            (
                feature.name,
                speaks_for(feature.direction, task, classes)[0],
                f"{feature.size:.3g}",
                "" if np.isnan(feature.share) else share_text(feature.share, 1),
                "undefined" if np.isnan(correlation) else f"{correlation:.2f}",
            )
        )
    text = (
        "What a higher value speaks for is seen by how a feature's attributions go with its values "
        "over the samples (Spearman); true labels have no part in it."
    )
    if shown and not np.isnan(shown[0].share):
        text += " Shares are of the score's mean square."
        if min(feature.share for feature in shown[:MOST_ROWS]) < 0:
            text += f" {NEGATIVE_SHARE}"
    figure = feature_bars(shown, task, classes)
    return Section(name, heading, figure, text, rows)


def feature_bars(features: Sequence[Feature], task: str, classes: Sequence[str]) -> go.Figure:
    """A bar a feature, the largest first; its colour tells what a higher value speaks for."""
    names = shown_names([feature.name for feature in features], LONGEST_NAME)
    sides: dict[str, list[int]] = {}
    colours: dict[str, str] = {}
    for number, feature in enumerate(features):
        side, colour = speaks_for(feature.direction, task, classes)
        sides.setdefault(side, []).append(number)
        colours[side] = colour
    figure = go.Figure()
    for side in sorted(sides):
        numbers = sides[side]
        figure.add_bar(
            x=[features[n].size for n in numbers],
            y=[names[n] for n in numbers],
            orientation="h",
            name=shown_name(side),
            marker={"color": colours[side], "pattern": _pattern(side)},
            hovertemplate="%{y}: %{x:.3g}<extra>%{fullData.name}</extra>",
        )
    # At the top, so that a legend of several lines does not run into it.
    figure.update_xaxes(
        title={"text": "mean |attribution|", "standoff": 4}, side="top", automargin=True
    )
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=names,
        autorange="reversed",
        automargin=True,
        dtick=1,
    )
    figure.update_layout(
        height=FRAME + BAR_HEIGHT * len(features), barmode="overlay", showlegend=True
    )
    return figure


def _pattern(side: str) -> Mapping[str, Any]:
    """Hatched where a higher value speaks against a class, whose colour stands for it."""
    return {"shape": "/" if side.startswith("against ") else ""}

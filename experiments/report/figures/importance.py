"""Attributions over the mean spectrum, of single features, and of each sample, drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from scipy.stats import rankdata

from datasets.cohort import UNNAMED_AXIS
from datasets.messages import Message, sentences
from engine.explain import Direction, Explained, find_direction, sample_points, toward_second
from experiments.report.figures.figure_page import (
    LONGEST_ID,
    PALETTE,
    Section,
    list_names,
    shown_name,
    shown_names,
)

if TYPE_CHECKING:
    from experiments.report.figures.report_input import ReportInput

UNCLEAR, UNCLEAR_COLOUR = "no clear direction", "#999999"


@dataclass(frozen=True)
class Feature:
    """A covariate or a region of the spectrum, over the explained samples.

    ``attributions``, [N], add to the explained score; ``values``, [N], are as the model was given
    them, of a region the mean intensity, of a covariate with several bins their mean; ``share`` is
    by :meth:`Attributions.share`.
    """

    name: str
    attributions: np.ndarray
    values: np.ndarray
    direction: Direction
    share: float

    @property
    def size(self) -> float:
        """Mean |attribution|."""
        return float(np.abs(self.attributions).mean())


@dataclass(frozen=True)
class Attributions:
    """The explained samples' attributions to the outputs ``target``, long [N], in one sense.

    Of the log-odds of two classes all speak for the second one, whichever was explained.
    ``points``, [N, L], are summed over a sample's scans; ``covariates`` are [N, D]; ``change``,
    [N], is what they add up to, f(x) - f(baseline); None where they do not.
    """

    what: str
    target: torch.Tensor
    points: np.ndarray
    covariates: np.ndarray
    change: np.ndarray | None

    def share(self, contributions: np.ndarray) -> float:
        """The part of the scores' mean square that contributions [N] account for.

        Shares of what does not overlap add up to 1, as in
        :func:`engine.explain.attribution_regions.rank_windows`; NaN where nothing adds up.
        """
        whole = 0.0 if self.change is None else float(self.change @ self.change)
        if self.change is None or whole == 0:
            return float("nan")
        return float(self.change @ contributions) / whole


def in_one_sense(explained: Explained, examined: ReportInput) -> Attributions:
    """Sum over scans, and turn what was explained of the first of two classes."""
    target = explained.target.long()
    parts = [sample_points(explained), explained.tabular.double()]
    if explained.change is not None:
        parts.append(explained.change.double())
    if examined.scale is not None:
        unit = torch.as_tensor(examined.scale, dtype=torch.double)[target]
        parts = [part * unit.reshape(-1, *(1 for _ in part.shape[1:])) for part in parts]
    if examined.outputs.task == "binary" and explained.score == "log_odds":
        parts = [toward_second(part, target) for part in parts]
        target = torch.ones_like(target)
    points, covariates, *change = (part.numpy() for part in parts)
    score = "log-odds" if explained.score == "log_odds" else "logit"
    score = "prediction" if examined.outputs.task == "regression" else score
    what = Message(f"the {score} of each sample's most likely class")
    if len(target) and bool((target == target[0]).all()):
        what = Message(f"the {score} of {{}}", examined.classes[int(target[0])])
    return Attributions(what, target, points, covariates, change[0] if change else None)


def covariate_features(found: Attributions, examined: ReportInput) -> list[Feature]:
    """The covariates, those that say most first.

    Features of one name, the bins of a covariate, are one: contributions are summed, values
    averaged, which keeps the order of the covariate's values.
    """
    assert examined.inputs is not None
    width = found.covariates.shape[1]
    names = examined.covariates or [Message("covariate {}", n) for n in range(width)]
    own: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        own.setdefault(name, []).append(number)
    given = examined.inputs.covariates
    return _features(
        found,
        [(n, found.covariates[:, c].sum(axis=1), given[:, c].mean(axis=1)) for n, c in own.items()],
    )


def window_features(
    found: Attributions, examined: ReportInput, windows: Sequence[tuple[int, int]]
) -> list[Feature]:
    """Regions of the spectrum (first point, and the one behind the last), the largest first."""
    assert examined.inputs is not None
    scans = examined.inputs.scans
    columns = []
    for start, stop in windows:
        name, attributions = window_name(examined, start, stop), found.points[:, start:stop]
        columns.append((name, attributions.sum(axis=1), scans[:, start:stop].mean(axis=1)))
    return _features(found, columns)


def _features(
    found: Attributions, columns: Iterable[tuple[str, np.ndarray, np.ndarray]]
) -> list[Feature]:
    """Features of names, attributions [N] and values [N], those that say most first."""
    features = []
    for name, attributions, values in columns:
        as_given = torch.from_numpy(values.astype(np.float64))
        direction = find_direction(as_given, torch.from_numpy(attributions), found.target)
        share = found.share(attributions)
        features.append(Feature(name, attributions, values, direction, share))
    return sorted(features, key=lambda feature: -feature.size)


def window_name(examined: ReportInput, start: int, stop: int) -> str:
    """The name of a region, by the axis if there is one."""
    if examined.axis is None:
        if stop - start > 1:
            return Message("points {} to {}", start, stop - 1)
        return Message("point {}", start)
    ends = examined.axis[start], examined.axis[stop - 1]
    # As many digits as it takes to tell neighbouring points apart.
    step = float(np.abs(np.diff(examined.axis)).min(initial=1.0))
    digits = int(np.clip(np.ceil(-np.log10(max(step, 1e-6))), 0, 4))
    first, last = (f"{end:.{digits}f}" for end in ends)
    axis = Message(UNNAMED_AXIS) if examined.axis_name == UNNAMED_AXIS else examined.axis_name
    if stop - start > 1:
        return Message("{} {} to {}", axis, first, last)
    return Message("{} {}", axis, first)


def speaks_for(direction: Direction, task: str, classes: Sequence[str]) -> tuple[str, str]:
    """The effect of a higher value, in words, and its colour."""
    output, sign = direction.output, direction.sign
    name = str(classes[output])
    if sign == 0:
        return UNCLEAR, UNCLEAR_COLOUR
    if task == "regression":
        return Message("raises {}" if sign > 0 else "lowers {}", name), PALETTE[int(sign > 0)]
    if task == "binary":
        spoken_for = output if sign > 0 else 1 - output
        return Message("for {}", classes[spoken_for]), PALETTE[spoken_for]
    told = Message("for {}" if sign > 0 else "against {}", name)
    return told, PALETTE[output % len(PALETTE)]


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
EFFECT = Message(
    "The effect of a higher value is the sign of the Spearman correlation between a feature's "
    "attributions and its values; true labels are not used."
)
NEGATIVE_SHARE = Message(
    "A negative share means that the contributions oppose the score; their size is the mean "
    "|attribution|."
)


def spectrum_section(
    found: Attributions, examined: ReportInput, lead: str, windows: Sequence[tuple[int, int]] = ()
) -> Section:
    """The mean spectrum with what its points say beneath it."""
    text = [lead, Message("Attributions of {}, over {} samples.", found.what, len(found.points))]
    shares = [found.share(part.sum(axis=1)) for part in (found.points, found.covariates)]
    if not np.isnan(shares).any():
        told = "The spectra account for {} of the score's mean square, the covariates for {}."
        text.append(Message(told, *(share_text(share, 0) for share in shares)))
        if min(shares) < 0:
            text.append(NEGATIVE_SHARE)
    if windows:
        text.append(Message("Marked: the {} regions with the largest share.", len(windows)))
    figure = spectrum_figure(found, examined, windows)
    return Section("points", "Mean spectrum and attribution", figure, sentences(*text))


def share_text(share: float, digits: int) -> str:
    """A share in percent; one that rounds to zero has no sign."""
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

    def add_line(name: str, y: np.ndarray, colour: str, row: int, **others: Any) -> None:
        line = {"color": colour, "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, row=row, col=1, **others)

    add_line("mean spectrum", spectrum, SPECTRUM_COLOUR, 1)
    # Summed to what a screen can show as colours.
    begins = np.arange(0, length, -(-length // MOST_BANDS))
    band = np.add.reduceat(found.points.mean(axis=0), begins).astype(np.float32)
    largest = float(np.abs(band).max()) or 1.0
    figure.add_heatmap(
        x=np.append(places[begins], places[-1]),
        z=band[None],
        zmin=-largest,
        zmax=largest,
        colorscale=BAND,
        showscale=False,
        hoverinfo="skip",
        row=2,
        col=1,
    )
    add_line("mean attribution, with sign", signed, PALETTE[1], 3, visible=True)
    add_line("mean |attribution|", absolute, PALETTE[0], 3, visible="legendonly")
    # Half-way to the neighbours, so that one of a single point is seen, too.
    between = np.convolve(np.pad(places, 1, mode="edge"), [0.5, 0.5], mode="valid")
    # All at once: add_vrect takes longer for each than all else here.
    mark = {"type": "rect", "fillcolor": WINDOW, "line": {"width": 0}, "layer": "below"}
    shapes = []
    for start, stop in windows:
        extent = {"x0": float(between[start]), "x1": float(between[stop]), "y0": 0, "y1": 1}
        shapes.append({**mark, **extent, "xref": "x", "yref": "y domain"})
        shapes.append({**mark, **extent, "xref": "x3", "yref": "y3 domain"})
    figure.layout.shapes = shapes
    name = "point" if examined.axis is None else shown_name(examined.axis_name)
    figure.update_xaxes(title_text=name, row=3, col=1)
    figure.update_yaxes(title_text=examined.inputs.intensity, row=1, col=1)
    figure.update_yaxes(
        showticklabels=False, showgrid=False, zeroline=False, ticks="", row=2, col=1
    )
    figure.update_yaxes(title_text="attribution", nticks=4, row=3, col=1)
    figure.update_yaxes(automargin=True)
    return figure.update_layout(height=560, hovermode="x", showlegend=True)


def feature_section(
    name: str, heading: str, features: Sequence[Feature], examined: ReportInput
) -> Section:
    """Bars and a table of features: how much they say, and what a higher value speaks for."""
    shown, task, classes = features[:MOST_BARS], examined.outputs.task, examined.classes
    rows: list[Sequence[Any]] = [
        ("feature", "effect of a higher value", "mean |attribution|", "share", "rank correlation")
    ]
    for feature in shown[:MOST_ROWS]:
        effect, _ = speaks_for(feature.direction, task, classes)
        correlation = feature.direction.rank_correlation
        told = "undefined" if np.isnan(correlation) else f"{correlation:.2f}"
        share = "" if np.isnan(feature.share) else share_text(feature.share, 1)
        rows.append((feature.name, effect, f"{feature.size:.3g}", share, told))
    text = [EFFECT]
    if shown and not np.isnan(shown[0].share):
        text.append(Message("Shares are of the score's mean square."))
        if min(feature.share for feature in shown[:MOST_ROWS]) < 0:
            text.append(NEGATIVE_SHARE)
    return Section(name, heading, feature_bars(shown, task, classes), sentences(*text), rows)


def feature_bars(features: Sequence[Feature], task: str, classes: Sequence[str]) -> go.Figure:
    """One bar per feature, the largest first, coloured by the effect of a higher value."""
    names = shown_names([feature.name for feature in features], LONGEST_NAME)
    effects = [speaks_for(feature.direction, task, classes) for feature in features]
    figure = go.Figure()
    for effect, colour in sorted(dict(effects).items()):
        numbers = [number for number, (own, _) in enumerate(effects) if own == effect]
        # Hatched where a higher value speaks against a class, whose colour stands for it.
        pattern = {"shape": "/" if effect.startswith("against ") else ""}
        figure.add_bar(
            x=[features[n].size for n in numbers],
            y=[names[n] for n in numbers],
            orientation="h",
            name=shown_name(effect),
            marker={"color": colour, "pattern": pattern},
            hovertemplate="%{y}: %{x:.3g}<extra>%{fullData.name}</extra>",
        )
    # At the top, so that a legend of several lines does not run into it.
    title = {"text": "mean |attribution|", "standoff": 4}
    figure.update_xaxes(title=title, side="top", automargin=True)
    list_names(figure)
    figure.update_yaxes(categoryorder="array", categoryarray=names)
    height = FRAME + BAR_HEIGHT * len(features)
    return figure.update_layout(height=height, barmode="overlay", showlegend=True)


MOST_FEATURES, ROW_HEIGHT, SUMMARY_FRAME = 20, 32, 120
# More points a row say no more; they are drawn at random.
MOST_SAMPLES = 300
# Places along a row in which points are heaped up, and the height of the highest heap, in rows.
BINS, HIGHEST = 80, 0.42
VALUES = [[0, PALETTE[0]], [0.5, "#b0b0b0"], [1, PALETTE[1]]]


def summary_sections(
    features: Sequence[Feature], sample_id: Sequence[str], what: str, values: str, note: str
) -> list[Section]:
    """Sections with a point for each sample and feature, and with the features' means.

    ``values`` names the attributions to ``what`` (``SHAP value``), ``note`` how they were made.
    """
    if not features:
        return [Section("summary", "No features", text="No features were explained.")]
    shown = sorted(features, key=lambda feature: -feature.size)[:MOST_FEATURES]
    samples = len(sample_id)
    drawn = np.sort(np.random.default_rng(0).permutation(samples)[:MOST_SAMPLES])
    text = [
        note,
        Message("One point per sample: the feature's contribution to {}.", what),
        Message("Colour: the rank of the feature's value among the samples."),
    ]
    if len(drawn) < samples:
        text.append(Message("Shown: a random {} of {} samples.", len(drawn), samples))
    ids = [shown_name(sample_id[i], LONGEST_ID) for i in drawn]
    figure = _summary_points(shown, drawn, ids, values)
    return [
        Section("summary", "All samples", figure, sentences(*text)),
        Section("mean", "Mean magnitude", _mean_bars(shown, values)),
    ]


def _summary_points(
    features: Sequence[Feature], drawn: np.ndarray, ids: Sequence[str], values: str
) -> go.Figure:
    figure = go.Figure()
    largest = max(float(np.abs(feature.attributions).max()) for feature in features) or 1.0
    for row, feature in enumerate(features):
        x, ranks = feature.attributions[drawn], rankdata(feature.values)
        least, most = ranks.min(), ranks.max()
        # From 0 to 1; in the middle where all values are the same.
        places = (ranks - least) / (most - least) if most > least else np.full(len(ranks), 0.5)
        figure.add_scatter(
            x=x.astype(np.float32),
            y=(row + _heaped(x, largest)).astype(np.float32),
            text=ids,
            customdata=feature.values[drawn].astype(np.float32),
            mode="markers",
            marker={"size": 6, "color": places[drawn], "coloraxis": "coloraxis"},
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
    figure.update_layout(height=SUMMARY_FRAME + ROW_HEIGHT * len(features), showlegend=False)
    colours = {"colorscale": VALUES, "cmin": 0, "cmax": 1, "colorbar": bar}
    return figure.update_layout(hovermode="closest", coloraxis=colours)


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


def _mean_bars(features: Sequence[Feature], values: str) -> go.Figure:
    names = shown_names([feature.name for feature in features], LONGEST_NAME)
    sizes = [feature.size for feature in features]
    figure = go.Figure(go.Bar(x=sizes, y=names, orientation="h", marker_color=PALETTE[0]))
    figure.update_traces(hovertemplate="%{y}: %{x:.3g}<extra></extra>")
    list_names(figure)
    figure.update_xaxes(title_text=f"mean |{values}|")
    return figure.update_layout(height=SUMMARY_FRAME + 24 * len(features), showlegend=False)

"""Figures of several models side by side, each from plain numbers or from their outputs."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from sklearn.metrics import precision_recall_curve, roc_curve

from engine.metrics import EpochOutputs, area_under_roc, average_precision
from engine.reporting import SHORT_DIGITS, figure_text, with_bounds
from engine.statistics import Interval
from experiments.analysis import ranked_scores
from experiments.report.figures import (
    GUIDE,
    PALETTE,
    add_diagonal,
    say_undefined,
    shown_name,
    shown_names,
)

PANELS_A_ROW, PANEL_HEIGHT, CURVES_HEIGHT = 3, 240, 460
LONGEST_TITLE = 40  # in characters
# What tells models apart once the colours are used up.
DASHES, PATTERNS = ("solid", "dash", "dot", "dashdot"), ("", "/", ".", "x")
SYMBOLS = ("circle", "square", "diamond", "cross")

# Class or label -> model -> scores [N] and who is positive, bool [N].
Ranked = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]


def metric_bars(models: Sequence[str], figures: Mapping[str, Sequence[Interval]]) -> go.Figure:
    """One panel per metric and one bar per model, with its interval where there is one."""
    figure, places = _panels(list(figures), PANEL_HEIGHT)
    for metric, place in places.items():
        for index, found in enumerate(figures[metric]):
            pattern = {"shape": _again(PATTERNS, index)}
            figure.add_bar(
                marker={"color": _colour(index), "pattern": pattern},
                text=[figure_text(found.value, SHORT_DIGITS)],
                textposition="inside",
                insidetextanchor="start",
                **_with_interval(found, models, index, metric == next(iter(places))),
                **place,
            )
    # Names would be longer than the bars are wide: they stand in the legend.
    figure.update_xaxes(showticklabels=False, ticks="")
    return figure


def metric_differences(
    models: Sequence[str], differences: Mapping[str, Sequence[Interval]]
) -> go.Figure:
    """One panel per metric and one point per model with its interval, and a line at zero.

    The first of ``models`` is the reference; ``differences`` has one figure for each other.
    """
    figure, places = _panels(list(differences), PANEL_HEIGHT)
    for metric, place in places.items():
        for index, found in enumerate(differences[metric], start=1):
            figure.add_scatter(
                mode="markers",
                marker={"color": _colour(index), "size": 9, "symbol": _again(SYMBOLS, index)},
                **_with_interval(found, models, index, metric == next(iter(places))),
                **place,
            )
        figure.add_hline(y=0, line=GUIDE, **place)  # on an empty panel Plotly draws none
    figure.update_xaxes(
        showticklabels=False, ticks="", showgrid=False, range=[0.4, len(models) - 0.4]
    )
    return figure


def _with_interval(
    found: Interval, models: Sequence[str], index: int, in_legend: bool
) -> dict[str, Any]:
    """A model's figure at its place, with its interval if there is one."""
    told: dict[str, Any] = {"x": [index], "y": [found.value], "hovertemplate": with_bounds(found)}
    told |= _in_legend(models, index, in_legend)
    if not math.isnan(found.low):
        ends = {"array": [found.high - found.value], "arrayminus": [found.value - found.low]}
        told["error_y"] = {"symmetric": False, "color": "grey", "thickness": 1.5, **ends}
    return told


def ranked_by_model(outputs: Mapping[str, EpochOutputs], names: Sequence[str]) -> Ranked:
    """The ranked classes or labels, each with the models whose scores are finite."""
    first = 1 if next(iter(outputs.values())).task == "binary" else 0
    ranked: Ranked = {str(name): {} for name in names[first:]}
    for model, found in outputs.items():
        if not found.diverged:
            for _, name, scores, positive in ranked_scores(found, names):
                ranked[str(name)][model] = scores, positive
    return ranked


def roc_curves(outputs: Mapping[str, EpochOutputs], names: Sequence[str]) -> go.Figure:
    """A panel for each class (or label), a ROC curve a model; "undefined" where there is none."""
    figure = _curves(outputs, names, lambda true, by: roc_curve(true, by)[:2], lambda _: [0.0, 1.0])
    figure.update_xaxes(title_text="false positive rate")
    return figure.update_yaxes(title_text="true positive rate")


def precision_recall_curves(outputs: Mapping[str, EpochOutputs], names: Sequence[str]) -> go.Figure:
    """The same of precision over recall; chance is the share of positives."""
    # scikit-learn gives precision first, and by falling recall.
    figure = _curves(
        outputs,
        names,
        lambda true, by: precision_recall_curve(true, by)[1::-1],
        lambda positive: [positive.mean()] * 2,
    )
    figure.update_xaxes(title_text="recall")
    return figure.update_yaxes(title_text="precision", range=[0, 1.02])


def areas(outputs: Mapping[str, EpochOutputs], names: Sequence[str]) -> list[list[str]]:
    """The areas under both curves: rows of cells, the first the names of the columns."""
    rows = [["model", "of", "under the ROC", "average precision"]]
    for name, of_models in ranked_by_model(outputs, names).items():
        for model in outputs:
            cells = ["undefined", "undefined"]
            if model in of_models:
                scores, positive = map(torch.from_numpy, of_models[model])
                both = (area_under_roc, average_precision)
                cells = [figure_text(area(scores, positive)) for area in both]
            rows.append([model, name, *cells])
    return rows


def _curves(
    outputs: Mapping[str, EpochOutputs],
    names: Sequence[str],
    curve: Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]],
    chance: Callable[[np.ndarray], list[float]],
) -> go.Figure:
    """A panel for each class or label; ``chance`` has the ends of its line of who is positive."""
    models, ranked = list(outputs), ranked_by_model(outputs, names)
    figure, places = _panels(list(ranked), CURVES_HEIGHT)
    first = next((name for name, of_models in ranked.items() if of_models), None)
    for name, of_models in ranked.items():
        for model, (scores, positive) in of_models.items():
            index = models.index(model)
            x, y = curve(positive, scores)
            line = {"color": _colour(index), "dash": _again(DASHES, index)}
            legend = _in_legend(models, index, name == first)
            figure.add_scatter(x=x, y=y, mode="lines", line=line, **legend, **places[name])
        if of_models:
            ends = {"x": [0, 1], "y": chance(positive), "showlegend": name == first}
            figure.add_scatter(mode="lines", line=GUIDE, name="chance", **ends, **places[name])
        else:
            say_undefined(figure, **places[name])
    return figure.update_layout(showlegend=True)


def overlaid_predictions(outputs: Mapping[str, EpochOutputs], names: Sequence[str]) -> go.Figure:
    """Of a regression: one panel per target, one point per sample and model."""
    figure, places = _panels(list(names), CURVES_HEIGHT)
    for number, place in enumerate(places.values()):
        seen = []
        for index, found in enumerate(outputs.values()):
            true, predicted = found.target[:, number].numpy(), found.predictions[:, number].numpy()
            seen += [true, predicted]
            figure.add_scatter(
                x=true,
                y=predicted,
                text=[shown_name(sample) for sample in found.sample_id],
                mode="markers",
                marker={"color": _colour(index), "symbol": _again(SYMBOLS, index), "opacity": 0.6},
                hovertemplate="%{text}: true %{x:.4g}, predicted %{y:.4g}",
                **_in_legend(list(outputs), index, number == 0),
                **place,
            )
        add_diagonal(figure, *seen, showlegend=number == 0, **place)
    figure.update_xaxes(title_text="true")
    figure.update_yaxes(title_text="predicted")
    return figure


def _panels(titles: Sequence[str], height: int) -> tuple[go.Figure, dict[str, dict[str, int]]]:
    """Panels in rows, and the place of each by its title."""
    columns = min(len(titles), PANELS_A_ROW)
    rows = -(-len(titles) // columns)
    names, space = shown_names(titles, LONGEST_TITLE), 0.3 / rows
    figure = make_subplots(rows, columns, subplot_titles=names, vertical_spacing=space)
    figure.update_layout(height=height * rows)
    places = {}
    for number, title in enumerate(titles):
        places[title] = {"row": number // columns + 1, "col": number % columns + 1}
    return figure, places


def _in_legend(models: Sequence[str], index: int, shown: bool) -> dict[str, Any]:
    """A model's traces have one entry, which shows and hides them all."""
    return {"name": shown_names(models)[index], "legendgroup": str(index), "showlegend": shown}


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _again(marks: Sequence[str], index: int) -> str:
    """The mark that tells a model apart from those of its colour."""
    return marks[index // len(PALETTE) % len(marks)]

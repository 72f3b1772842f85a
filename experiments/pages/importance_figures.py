"""What a model's scores rest on, drawn over the spectrum's axis and the covariates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from engine.attribution import Importance
from experiments.pages.figure_page import Section
from experiments.pages.figures import PALETTE

# Further covariates are small and would not be legible.
MOST_BARS = 30
BAR_HEIGHT, FRAME = 22, 120


def importance_sections(
    importance: Importance,
    what: str,
    axis: np.ndarray | None = None,
    axis_name: str = "m/z",
    covariate_names: Sequence[str] | None = None,
) -> list[Section]:
    """Sections on the points of the scans, the covariates, and how much each modality says.

    Args:
        importance: Aggregated over samples.
        what: The score that was explained (``the logit of case``).
        axis: The points' places, [L]; None for their numbers.
        axis_name: What the places are.
        covariate_names: D names; None for their numbers.
    """
    points, covariates = float(importance.points.sum()), float(importance.covariates.sum())
    spectra_share = points / (points + covariates) if points + covariates > 0 else 0.0
    gap = "" if importance.gap is None else f" They add up to within {importance.gap:.2g} of it."
    text = (
        f"Attributions of {what}, averaged over {importance.samples} samples: what each input adds "
        f"to it, against an input of zeros.{gap} {spectra_share:.0%} of their absolute sum lies in "
        f"the spectra, {1 - spectra_share if points + covariates > 0 else 0:.0%} in the covariates."
    )
    sections = [
        Section("points", "Points of the spectrum", point_figure(importance, axis, axis_name), text)
    ]
    if len(importance.covariates):
        figure = covariate_figure(importance, covariate_names)
        sections.append(Section("covariates", "Covariates", figure))
    return sections


def point_figure(
    importance: Importance, axis: np.ndarray | None = None, axis_name: str = "m/z"
) -> go.Figure:
    """Attribution over the spectrum: its size, and with its sign."""
    places = np.arange(len(importance.points)) if axis is None else np.asarray(axis)
    figure = go.Figure()
    for name, values, colour, shown in (
        ("mean |attribution|", importance.points, PALETTE[0], True),
        ("mean attribution, with sign", importance.signed_points, PALETTE[1], "legendonly"),
    ):
        figure.add_scatter(
            x=places,
            y=values.numpy(),
            mode="lines",
            line={"color": colour, "width": 1},
            name=name,
            visible=shown,
        )
    figure.update_layout(height=420, hovermode="x", showlegend=True)
    figure.update_xaxes(title_text="point" if axis is None else axis_name)
    figure.update_yaxes(title_text="attribution")
    return figure


def covariate_figure(importance: Importance, names: Sequence[str] | None = None) -> go.Figure:
    """A bar a covariate, the largest first; its colour tells the mean direction."""
    size, signed = importance.covariates.numpy(), importance.signed_covariates.numpy()
    known = list(names or [f"covariate {number}" for number in range(len(size))])
    order = np.argsort(-size, kind="stable")[:MOST_BARS]
    figure = go.Figure()
    for side, colour, chosen in (
        ("raises the score on average", PALETTE[0], signed[order] >= 0),
        ("lowers the score on average", PALETTE[1], signed[order] < 0),
    ):
        figure.add_bar(
            x=size[order[chosen]],
            y=[known[i] for i in order[chosen]],
            orientation="h",
            name=side,
            marker_color=colour,
            hovertemplate="%{y}: %{x:.3g}<extra></extra>",
        )
    figure.update_xaxes(title_text="mean |attribution|")
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=[known[i] for i in order],
        autorange="reversed",
        automargin=True,
    )
    figure.update_layout(height=FRAME + BAR_HEIGHT * len(order), barmode="overlay")
    return figure

"""The samples as the model sees them: their embeddings in the plane, coloured at will."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from engine.metrics import EpochOutputs
from experiments.report.figures.colourings import (
    MISSES_SCALE,
    MOST_TARGETS,
    SCALE,
    Colouring,
    colourings,
)
from experiments.report.figures.common import PALETTE
from experiments.report.figures.figure_page import Section
from experiments.report.figures.menu import add_menu
from experiments.report.figures.text import shown_name, shown_names

MOST_COMPONENTS = 10
# A screen shows no more points, and t-SNE takes 11 s for so many (500 samples: 2 s).
MOST_DRAWN = 2000
# Fewer have no neighbourhoods; of so many numbers a vector has t-SNE takes the main directions,
# as scikit-learn advises.
FEWEST_FOR_TSNE, TSNE_FEATURES = 10, 50
LARGEST_PERPLEXITY = 30
LONGEST_ID = 60


def plane_sections(
    vectors: np.ndarray,
    outputs: EpochOutputs,
    names: Sequence[str],
    source: str,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> list[Section]:
    """Sections with the samples in the plane, by principal components and by t-SNE.

    Args:
        vectors: The samples' embeddings, [N, E].
        outputs: Of the same samples in the same order.
        names: Of the classes, the labels or the regression's targets.
        source: What the vectors are (``embedding``).
        columns: Further properties to colour by, as for
            :func:`experiments.report.figures.colourings.colourings`.
    """
    samples, features = vectors.shape
    reason = ""
    if samples < 3 or features < 2:
        reason = f"Too few data for a plane: {samples} samples with {features} features."
    elif not np.isfinite(vectors).all():
        reason = f"The {source} contains NaN or infinite values: no components."
    elif not (vectors != vectors[0]).any():
        reason = f"All samples have the same {source}."
    if reason:
        return [Section("pca", "Principal components", text=reason)]
    vectors = vectors.astype(np.float64)
    drawn = np.sort(np.random.default_rng(0).permutation(samples)[:MOST_DRAWN])
    by = colourings(outputs, names, columns)
    ids = [shown_name(name, LONGEST_ID) for name in outputs.sample_id]

    def draw(places: np.ndarray, axes: tuple[str, str]) -> go.Figure:
        return _plane(places, [ids[i] for i in drawn], drawn, by, axes)

    plane, variance = _by_pca(vectors, source, drawn, draw)
    planes = [plane, _by_tsne(vectors, source, drawn, draw)]
    if outputs.task == "regression" and len(names) > MOST_TARGETS:
        told = f" Colours: the first {MOST_TARGETS} of {len(names)} targets."
        planes = [replace(section, text=section.text + told) for section in planes]
    return [*planes, variance]


Draw = Callable[[np.ndarray, tuple[str, str]], go.Figure]


def _by_pca(
    vectors: np.ndarray, source: str, drawn: np.ndarray, draw: Draw
) -> tuple[Section, Section]:
    samples, features = vectors.shape
    pca = PCA(min(MOST_COMPONENTS, samples - 1, features), random_state=0)
    places, shares = pca.fit_transform(vectors), pca.explained_variance_ratio_
    text = (
        f"{features} features of the model's {source}, {samples} samples; the first two "
        f"components explain {shares[:2].sum():.0%} of the variance.{_left_out(samples, drawn)}"
    )
    axes = (f"component 1 ({shares[0]:.0%})", f"component 2 ({shares[1]:.0%})")
    return (
        Section("pca", "Principal components", draw(places[drawn, :2], axes), text),
        Section("variance", "Explained variance", _variance(shares)),
    )


def _by_tsne(vectors: np.ndarray, source: str, drawn: np.ndarray, draw: Draw) -> Section:
    samples, features = vectors.shape
    if samples < FEWEST_FOR_TSNE:
        text = f"{samples} samples are too few for t-SNE: it needs at least {FEWEST_FOR_TSNE}."
        return Section("tsne", "t-SNE", text=text)
    chosen = vectors[drawn]
    # Only proportions count; scaled, they survive single precision, in which t-SNE computes.
    chosen = (chosen - chosen.mean(axis=0)) / chosen.std()
    if features > TSNE_FEATURES:
        chosen = PCA(min(TSNE_FEATURES, len(chosen)), random_state=0).fit_transform(chosen)
    perplexity = min(LARGEST_PERPLEXITY, (len(chosen) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
    text = (
        f"The model's {source} by t-SNE (van der Maaten and Hinton 2008), perplexity "
        f"{perplexity:.3g}: neighbourhoods are meaningful, distances between clusters and cluster "
        "sizes are not."
        f"{_left_out(samples, drawn)}"
    )
    return Section("tsne", "t-SNE", draw(tsne.fit_transform(chosen), ("t-SNE 1", "t-SNE 2")), text)


def _left_out(samples: int, drawn: np.ndarray) -> str:
    if len(drawn) == samples:
        return ""
    return f" Shown: a random {len(drawn)} of {samples} samples."


def _plane(
    places: np.ndarray,
    ids: Sequence[str],
    drawn: np.ndarray,
    by: Sequence[Colouring],
    axes: tuple[str, str],
) -> go.Figure:
    """Points that a menu colours by one property after the other."""
    figure = go.Figure()
    belongs: list[int] = []
    for number, colouring in enumerate(by):
        for name, chosen, marker in _groups(colouring, drawn):
            figure.add_scatter(
                x=places[chosen, 0].astype(np.float32),
                y=places[chosen, 1].astype(np.float32),
                text=[ids[i] for i in np.flatnonzero(chosen).tolist()],
                mode="markers",
                marker={"size": 8, "opacity": 0.75, **marker},
                name=name,
                showlegend=colouring.kinds is not None,
                hovertemplate="%{text}<extra>%{fullData.name}</extra>"
                if colouring.kinds is not None
                else "%{text}: %{marker.color:.4g}<extra></extra>",
            )
            belongs.append(number)
    add_menu(figure, [colouring.name for colouring in by], belongs)
    figure.update_layout(height=520, hovermode="closest")
    figure.update_xaxes(title_text=axes[0], zeroline=False)
    figure.update_yaxes(title_text=axes[1], zeroline=False)
    return figure


def _groups(
    colouring: Colouring, drawn: np.ndarray
) -> list[tuple[str, np.ndarray, dict[str, object]]]:
    """Of each trace its name, which of the drawn samples it holds, and how they look."""
    values = colouring.values[drawn]
    if colouring.kinds is None:
        scale: dict[str, object] = {
            "color": values,
            "colorscale": MISSES_SCALE if colouring.around_zero else SCALE,
            "showscale": True,
            "colorbar": {
                "title": {"text": shown_name(colouring.name), "side": "right"},
                "thickness": 12,
            },
        }
        if colouring.around_zero:
            scale["cmid"] = 0
        return [(shown_name(colouring.name), np.ones(len(drawn), bool), scale)]
    return [
        (text, values == kind, dict(colouring.style(number)))
        for number, (kind, text) in enumerate(
            zip(colouring.kinds, shown_names(colouring.kinds), strict=True)
        )
    ]


def _variance(shares: np.ndarray) -> go.Figure:
    components = np.arange(1, len(shares) + 1)
    figure = go.Figure(go.Bar(x=components, y=shares, marker_color=PALETTE[0], name="each"))
    figure.add_scatter(
        x=components,
        y=shares.cumsum(),
        mode="lines+markers",
        line={"color": PALETTE[1]},
        name="cumulative",
    )
    figure.update_xaxes(title_text="component", dtick=1)
    figure.update_yaxes(title_text="share of the variance", range=[0, 1.02], tickformat=".0%")
    figure.update_layout(height=340, showlegend=True)
    return figure

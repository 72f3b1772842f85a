"""The samples as the model sees them: their embeddings' first two principal components."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from sklearn.decomposition import PCA

from engine.metrics import EpochOutputs
from experiments.pages.figure_page import Section
from experiments.pages.figures import PALETTE

MOST_COMPONENTS = 10


def pca_sections(
    vectors: np.ndarray, outputs: EpochOutputs, names: Sequence[str], source: str
) -> list[Section]:
    """Sections with the samples in two dimensions and the variance that each explains.

    Args:
        vectors: The samples' embeddings, [N, E].
        outputs: Of the same samples in the same order.
        names: Of the classes, the labels or the regression's targets.
        source: What the vectors are (``embedding``).
    """
    samples, features = vectors.shape
    if samples < 3 or features < 2:
        text = f"{samples} samples with {features} features have no plane to be drawn in."
        return [Section("pca", "Principal components", text=text)]
    if not np.isfinite(vectors).all():
        text = f"The {source} holds NaN or infinite values: there are no components."
        return [Section("pca", "Principal components", text=text)]
    pca = PCA(min(MOST_COMPONENTS, samples - 1, features), random_state=0)
    places = pca.fit_transform(vectors.astype(np.float64))
    shares = pca.explained_variance_ratio_
    text = (
        f"The {features} features of the model's {source}, for {samples} samples; the first two "
        f"components hold {shares[:2].sum():.0%} of the variance."
    )
    return [
        Section("pca", "Principal components", _scatter(places, outputs, names, shares), text),
        Section("variance", "Explained variance", _variance(shares)),
    ]


def _scatter(
    places: np.ndarray, outputs: EpochOutputs, names: Sequence[str], shares: np.ndarray
) -> go.Figure:
    true, predicted = _colourings(outputs, names)
    figure = make_subplots(
        1,
        2,
        subplot_titles=["coloured by truth", "coloured by prediction"],
        shared_yaxes=True,
        horizontal_spacing=0.06,
    )
    numbers = true.dtype.kind == "f"
    for column, values in enumerate((true, predicted), start=1):
        if numbers:
            style = {"color": values, "coloraxis": "coloraxis"}
            groups = [("samples", np.ones(len(values), bool), style)]
        else:
            kinds = list(dict.fromkeys([*names, *sorted(set(true) | set(predicted))]))
            kinds = [kind for kind in kinds if kind in set(true) | set(predicted)]
            groups = [
                (str(kind), values == kind, {"color": PALETTE[number % len(PALETTE)]})
                for number, kind in enumerate(kinds)
            ]
        for name, chosen, style in groups:
            figure.add_scatter(
                x=places[chosen, 0],
                y=places[chosen, 1],
                text=[outputs.sample_id[i] for i in np.flatnonzero(chosen)],
                mode="markers",
                marker={"size": 7, "opacity": 0.75, **style},
                name=name,
                legendgroup=name,
                showlegend=column == 1 and not numbers,
                hovertemplate="%{text}<extra>" + name + "</extra>",
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text=f"component 1 ({shares[0]:.0%})", row=1, col=column)
    figure.update_yaxes(title_text=f"component 2 ({shares[1]:.0%})", row=1, col=1)
    figure.update_layout(height=480)
    if numbers:
        figure.update_layout(coloraxis={"colorscale": "Viridis", "colorbar": {"title": names[0]}})
    return figure


def _colourings(outputs: EpochOutputs, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction of each sample: names, or for a regression the first target's values."""
    target, predicted = outputs.target.numpy(), outputs.predictions.numpy()
    if outputs.task == "regression":
        return target[:, 0].astype(float), predicted[:, 0].astype(float)
    if outputs.task == "multilabel":
        return _label_sets(target > 0, names), _label_sets(predicted > 0, names)
    known = np.array(names, dtype=object)
    return known[target], known[predicted]


def _label_sets(present: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """What each sample has, in words; by their number where there would be too many sets."""
    sets = [
        " + ".join(n for n, has in zip(names, row, strict=True) if has) or "none" for row in present
    ]
    if 2 ** len(names) > len(PALETTE) + 1:
        sets = [f"{number} labels" for number in present.sum(axis=1)]
    return np.array(sets, dtype=object)


def _variance(shares: np.ndarray) -> go.Figure:
    components = np.arange(1, len(shares) + 1)
    figure = go.Figure(go.Bar(x=components, y=shares, marker_color=PALETTE[0], name="each"))
    figure.add_scatter(
        x=components,
        y=shares.cumsum(),
        mode="lines+markers",
        line={"color": PALETTE[1]},
        name="together",
    )
    figure.update_xaxes(title_text="component", dtick=1)
    figure.update_yaxes(title_text="share of the variance", range=[0, 1.02], tickformat=".0%")
    figure.update_layout(height=340, showlegend=True)
    return figure

"""The samples' embeddings in the plane, coloured by truth, prediction, group, plate, ..."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from datasets.messages import Message, sentences
from engine.metrics import EpochOutputs
from experiments.report.figures.figure_page import (
    LONGEST_ID,
    PALETTE,
    Section,
    add_menu,
    shown_name,
    shown_names,
)

# More kinds cannot be told apart; the smaller ones are drawn together.
MOST_KINDS = 12
MOST_TARGETS = 4
SYMBOLS = ("circle", "diamond-open")
OTHERS_COLOUR = "#999999"
SCALE, MISSES_SCALE = {"colorscale": "Viridis"}, {"colorscale": "RdBu_r", "cmid": 0}


@dataclass(frozen=True)
class Colouring:
    """One property of N samples: text, object [N], or numbers, float [N].

    ``kinds`` are the different texts in the order of the legend; None of numbers, which have two
    directions if ``around_zero``.
    """

    name: str
    values: np.ndarray
    kinds: list[str] | None = None
    around_zero: bool = False

    def style(self, number: int) -> dict[str, str]:
        """Colour and symbol of a kind; they repeat after ``len(PALETTE) * len(SYMBOLS)``."""
        assert self.kinds is not None
        if number >= MOST_KINDS:
            return {"color": OTHERS_COLOUR, "symbol": "circle"}
        turn, colour = divmod(number, len(PALETTE))
        return {"color": PALETTE[colour], "symbol": SYMBOLS[turn % len(SYMBOLS)]}


def colourings(
    outputs: EpochOutputs, names: Sequence[str], columns: Mapping[str, Sequence[str]] | None = None
) -> list[Colouring]:
    """All that samples can be coloured by, the truth first.

    Further ``columns`` of text are left out where all samples have the same or different ones.
    """
    further = [_by_size(*column) for column in (columns or {}).items()]
    return [*_of_the_task(outputs, names), *(one for one in further if one is not None)]


def _of_the_task(outputs: EpochOutputs, names: Sequence[str]) -> list[Colouring]:
    target, predicted = outputs.target.numpy(), outputs.predictions.numpy()
    if outputs.task == "regression":
        return _of_values(target.astype(float), predicted.astype(float), names)
    if outputs.task == "multilabel":
        right = (target > 0) == (predicted > 0)
        true, said = _label_sets(target > 0, names), _label_sets(predicted > 0, names)
        outcome, kinds = right.all(axis=1), ["all labels right", "some label wrong"]
        order = sorted({*true, *said}, key=lambda text: (len(text.split(" + ")), text))
    else:
        known = np.array(names, dtype=object)
        true, said = known[target], known[predicted]
        outcome, kinds = target == predicted, ["correct", "wrong"]
        order = [str(name) for name in names]
    return [
        Colouring("true label", true, [kind for kind in order if kind in set(true)]),
        Colouring("prediction", said, [kind for kind in order if kind in set(said)]),
        Colouring("correct or wrong", np.where(outcome, *kinds).astype(object), kinds),
    ]


def _of_values(target: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> list[Colouring]:
    found = []
    for number, name in enumerate(names[:MOST_TARGETS]):
        true, said = target[:, number], predicted[:, number]
        found += [
            Colouring(Message("true {}", name), true),
            Colouring(Message("predicted {}", name), said),
            Colouring(Message("{}: predicted - true", name), said - true, around_zero=True),
        ]
    return found


def _label_sets(present: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Each sample's labels in words; their number where there would be too many sets."""
    sets = [
        " + ".join(n for n, has in zip(names, row, strict=True) if has) or Message("none")
        for row in present
    ]
    if 2 ** len(names) > MOST_KINDS:
        sets = [Message("{} labels", number) for number in present.sum(axis=1)]
    return np.array(sets, dtype=object)


def _by_size(name: str, texts: Sequence[object]) -> Colouring | None:
    """The largest kinds, and all others as one."""
    values = [str(text) for text in texts]
    counts = Counter(values)
    if len(counts) < 2 or max(counts.values()) == 1:
        return None
    kinds = sorted(counts, key=lambda kind: (-counts[kind], kind))
    shown, hidden = kinds[:MOST_KINDS], set(kinds[MOST_KINDS:])
    if hidden:
        others = Message("others ({})", len(hidden))
        values = [others if value in hidden else value for value in values]
        shown = [*shown, others]
    return Colouring(name, np.array(values, dtype=object), shown)


MOST_COMPONENTS = 10
# A screen shows no more points, and t-SNE takes 11 s for so many (500 samples: 2 s).
MOST_DRAWN = 2000
# Fewer have no neighbourhoods; of so many numbers a vector has t-SNE takes the main directions,
# as scikit-learn advises.
FEWEST_FOR_TSNE, TSNE_FEATURES = 10, 50
LARGEST_PERPLEXITY = 30


def plane_sections(
    vectors: np.ndarray,
    outputs: EpochOutputs,
    names: Sequence[str],
    source: str,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> list[Section]:
    """Sections with the samples in the plane, by principal components and by t-SNE.

    ``vectors`` [N, E] are their ``source`` (``embedding``); ``columns`` as of :func:`colourings`.
    """
    samples, features = vectors.shape
    reason = ""
    if samples < 3 or features < 2:
        told = "Too few data for a plane: {} samples with {} features."
        reason = Message(told, samples, features)
    elif not np.isfinite(vectors).all():
        reason = Message("The {} contains NaN or infinite values: no components.", Message(source))
    elif not (vectors != vectors[0]).any():
        reason = Message("All samples have the same {}.", Message(source))
    if reason:
        return [Section("pca", "Principal components", text=reason)]
    vectors = vectors.astype(np.float64)
    drawn = np.sort(np.random.default_rng(0).permutation(samples)[:MOST_DRAWN])
    some = Message("Shown: a random {} of {} samples.", len(drawn), samples)
    left_out = some if len(drawn) < samples else ""
    by = colourings(outputs, names, columns)
    ids = [shown_name(name, LONGEST_ID) for name in outputs.sample_id]

    def draw(places: np.ndarray, axes: Sequence[str]) -> go.Figure:
        return _plane(places, [ids[i] for i in drawn], drawn, by, axes)

    plane, variance = _by_pca(vectors, source, drawn, draw)
    planes = []
    few_colours = Message("Colours: the first {} of {} targets.", MOST_TARGETS, len(names))
    several = outputs.task == "regression" and len(names) > MOST_TARGETS
    for section in (plane, _by_tsne(vectors, source, drawn, draw)):
        told = left_out if section.figure is not None else ""
        text = sentences(section.text, told, few_colours if several else "")
        planes.append(replace(section, text=text))
    return [*planes, variance]


Draw = Callable[[np.ndarray, Sequence[str]], go.Figure]


def _by_pca(
    vectors: np.ndarray, source: str, drawn: np.ndarray, draw: Draw
) -> tuple[Section, Section]:
    samples, features = vectors.shape
    pca = PCA(min(MOST_COMPONENTS, samples - 1, features), random_state=0)
    places, shares = pca.fit_transform(vectors), pca.explained_variance_ratio_
    text = Message(
        "{} features of the model's {}, {} samples; the first two components explain {} of the "
        "variance.",
        *(features, Message(source), samples, f"{shares[:2].sum():.0%}"),
    )
    axes = [Message("component {} ({})", n + 1, f"{shares[n]:.0%}") for n in (0, 1)]
    plane = Section("pca", "Principal components", draw(places[drawn, :2], axes), text)
    return plane, Section("variance", "Explained variance", _variance(shares))


def _by_tsne(vectors: np.ndarray, source: str, drawn: np.ndarray, draw: Draw) -> Section:
    samples, features = vectors.shape
    if samples < FEWEST_FOR_TSNE:
        few = "{} samples are too few for t-SNE: it needs at least {}."
        return Section("tsne", "t-SNE", text=Message(few, samples, FEWEST_FOR_TSNE))
    chosen = vectors[drawn]
    # Only proportions count; scaled, they survive single precision, in which t-SNE computes.
    chosen = (chosen - chosen.mean(axis=0)) / chosen.std()
    if features > TSNE_FEATURES:
        chosen = PCA(min(TSNE_FEATURES, len(chosen)), random_state=0).fit_transform(chosen)
    perplexity = min(LARGEST_PERPLEXITY, (len(chosen) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(chosen)
    text = Message(
        "The model's {} by t-SNE (van der Maaten and Hinton 2008), perplexity {}: neighbourhoods "
        "are meaningful, distances between clusters and cluster sizes are not.",
        *(Message(source), f"{perplexity:.3g}"),
    )
    return Section("tsne", "t-SNE", draw(places, ["t-SNE 1", "t-SNE 2"]), text)


def _plane(
    places: np.ndarray,
    ids: Sequence[str],
    drawn: np.ndarray,
    by: Sequence[Colouring],
    axes: Sequence[str],
) -> go.Figure:
    """Points that a menu colours by one property after the other."""
    figure = go.Figure()
    belongs: list[int] = []
    for number, colouring in enumerate(by):
        shown = "%{text}<extra>%{fullData.name}</extra>"
        if colouring.kinds is None:
            shown = "%{text}: %{marker.color:.4g}<extra></extra>"
        for name, chosen, marker in _groups(colouring, drawn):
            figure.add_scatter(
                x=places[chosen, 0].astype(np.float32),
                y=places[chosen, 1].astype(np.float32),
                text=[ids[i] for i in np.flatnonzero(chosen).tolist()],
                mode="markers",
                marker={"size": 8, "opacity": 0.75, **marker},
                name=name,
                showlegend=colouring.kinds is not None,
                hovertemplate=shown,
            )
            belongs.append(number)
    add_menu(figure, [colouring.name for colouring in by], belongs)
    figure.update_xaxes(title_text=axes[0], zeroline=False)
    figure.update_yaxes(title_text=axes[1], zeroline=False)
    return figure.update_layout(height=520, hovermode="closest")


def _groups(
    colouring: Colouring, drawn: np.ndarray
) -> list[tuple[str, np.ndarray, dict[str, object]]]:
    """Each trace's name, its mask over the drawn samples, and its marker."""
    values = colouring.values[drawn]
    if colouring.kinds is None:
        name = shown_name(colouring.name)
        bar = {"title": {"text": name, "side": "right"}, "thickness": 12}
        scale: dict[str, object] = {"color": values, "showscale": True, "colorbar": bar}
        scale |= MISSES_SCALE if colouring.around_zero else SCALE
        return [(name, np.ones(len(drawn), bool), scale)]
    texts = zip(colouring.kinds, shown_names(colouring.kinds), strict=True)
    return [
        (text, values == kind, dict(colouring.style(number)))
        for number, (kind, text) in enumerate(texts)
    ]


def _variance(shares: np.ndarray) -> go.Figure:
    components = np.arange(1, len(shares) + 1)
    figure = go.Figure(go.Bar(x=components, y=shares, marker_color=PALETTE[0], name="each"))
    line = {"mode": "lines+markers", "line": {"color": PALETTE[1]}}
    figure.add_scatter(x=components, y=shares.cumsum(), name="cumulative", **line)
    figure.update_xaxes(title_text="component", dtick=1)
    figure.update_yaxes(title_text="share of the variance", range=[0, 1.02], tickformat=".0%")
    return figure.update_layout(height=340, showlegend=True)

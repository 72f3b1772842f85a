"""Attention weights, gates and the agreement of the modalities, drawn."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor
from torch.nn import functional

from datasets.messages import Message, sentences
from engine.metrics import TASKS, AttentionSummary, EpochOutputs, MeanWeights, ScanWeights
from engine.reporting import figure_text
from experiments.report.figures.figure_page import (
    GUIDE,
    LONGEST_ID,
    PALETTE,
    Section,
    add_menu,
    list_names,
    shown_name,
    shown_names,
)

GATE = "gate"
# What a gate of 1 and one of 0 let pass, where that is known.
MEANINGS = {
    "spectra_gate": "1 adds all of the spectra's new features, 0 none",
    "fusion_gate": "1 passes the spectra on, 0 the covariates",
}
# Beyond that a feature's gate is called one that depends on the sample.
MOVING = 0.1
BAND = "rgba(0, 114, 178, 0.25)"
MOST_LABELS = len(PALETTE)

# A class, label or target, and both heads' scores of it, [N] each.
Group = tuple[str, np.ndarray, np.ndarray]


def is_gate(name: str) -> bool:
    """Whether weights of that name are a gate's, not an attention's."""
    return name.endswith(GATE)


def gate_sections(summary: AttentionSummary, movement: Tensor | None = None) -> list[Section]:
    """Sections on the gates, and on how far covariates move each sample's spectra vector, [N]."""
    sections = []
    if movement is not None and len(movement):
        sections.append(_movement_section(movement.double().numpy()))
    gates = {name: found for name, found in summary.means.items() if is_gate(name)}
    for number, (name, found) in enumerate(gates.items()):
        if found.mean.ndim == 1:
            heading = name.replace("_", " ").capitalize()
            text = _gate_text(name, found, summary.samples)
            sections.append(Section(f"gate-{number}", heading, _gate(found), text))
    return sections


def _movement_section(values: np.ndarray) -> Section:
    figure = go.Figure(go.Histogram(x=values, nbinsx=30, marker_color=PALETTE[0]))
    figure.add_vline(x=float(np.median(values)), line={"dash": "dot", "color": PALETTE[1]})
    figure.update_xaxes(title_text="relative movement", rangemode="tozero")
    figure.update_layout(height=320, bargap=0.03, showlegend=False, yaxis_title_text="samples")
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    text = Message(
        "Relative to covariates of zeros, a sample's covariates move the gated vector of its "
        "spectra by {} of its length (median; 80% of the samples: {} to {}).",
        *(f"{share:.1%}" for share in (middle, low, high)),
    )
    return Section("movement", "Effect of the covariates on the spectra", figure, text)


def _gate_text(name: str, found: MeanWeights, samples: int) -> str:
    own = [Message(MEANINGS[name])] if name in MEANINGS else []
    told = "{} features, mean over {} samples, the most open first" + (" ({})." if own else ".")
    text = [
        Message(told, len(found.mean), samples, *own),
        Message("The gate is {} on average.", figure_text(float(found.mean.mean()), 2)),
    ]
    if found.spread is not None:
        moving = int((found.spread > MOVING).sum())
        spread = figure_text(float(found.spread.mean()), 3)
        told = (
            "Its standard deviation over the samples is {} (mean over the features), and above {} "
            "for {} of {} features."
        )
        text.append(Message(told, spread, MOVING, moving, len(found.mean)))
    return sentences(*text)


def _gate(found: MeanWeights) -> go.Figure:
    """The features' mean gates, sorted, and how far they vary from sample to sample."""
    mean = found.mean.numpy()
    order = np.argsort(-mean, kind="stable")
    rank = np.arange(1, len(mean) + 1)
    figure = go.Figure()
    if found.spread is not None:
        spread = found.spread.numpy()[order]
        figure.add_scatter(
            x=np.concatenate([rank, rank[::-1]]),
            y=np.concatenate([mean[order] + spread, (mean[order] - spread)[::-1]]),
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=BAND,
            hoverinfo="skip",
            name="one standard deviation",
        )
    figure.add_scatter(
        x=rank,
        y=mean[order],
        mode="lines",
        line={"color": PALETTE[0]},
        name="mean",
        text=[Message("feature {}", number + 1) for number in order],
        hovertemplate="%{text}: %{y:.3f}<extra></extra>",
    )
    figure.update_xaxes(title_text="features, the most open first")
    figure.update_yaxes(title_text="gate", range=[0, 1.02])
    return figure.update_layout(height=360, showlegend=True)


def agreement_section(
    outputs: EpochOutputs, names: Sequence[str], heads: tuple[Tensor, Tensor]
) -> Section:
    """The spectra head against the covariates head: scores [N, C] each, in the outputs' units."""
    make = _of_values if outputs.task == "regression" else _of_decisions
    figure, text = make(outputs, names, heads)
    return Section("agreement", "Agreement of the modalities", figure, text)


def _of_decisions(
    outputs: EpochOutputs, names: Sequence[str], heads: tuple[Tensor, Tensor]
) -> tuple[go.Figure, str]:
    task = TASKS[outputs.task]
    scores = [task.scores(head) for head in heads]
    predicted = [task.decide(of_head).numpy() for of_head in scores]
    spectra, tabular = (of_head.numpy() for of_head in scores)
    target, final = outputs.target.numpy(), outputs.predictions.numpy()
    differ = predicted[0] != predicted[1]
    what = "labels" if outputs.task == "multilabel" else "samples"
    text = [Message(f"The two heads agree on {{}} of the {what}.", f"{1 - differ.mean():.0%}")]
    if differ.any():
        right = [f"{(of == target)[differ].mean():.0%}" for of in (*predicted, final)]
        told = (
            "Where they differ, the spectra head is right in {}, the covariates head in {}, the "
            "whole model in {}."
        )
        text.append(Message(told, *right))
    if outputs.task == "multilabel":
        figure = _scatter(_columns(spectra, tabular, names), outputs)
        _mark_even_odds(figure)
        text.append(Message("Shown: each head's probability of a label."))
        return figure, sentences(*text, _first_of(MOST_LABELS, len(names), "labels"))
    # Of two classes the positive one; of more the one that the whole model decides for.
    rows = np.arange(len(target))
    binary = outputs.task == "binary"
    shown = np.ones_like(final) if binary else final
    groups = []
    for number, name in enumerate(names):
        own = target == number
        if own.any():
            x, y = (np.where(own, side[rows, shown], np.nan) for side in (spectra, tabular))
            groups.append((Message("true {}", name), x, y))
    figure = _scatter(groups, outputs)
    if not binary:
        told = "Shown: each head's probability of the class predicted by the whole model."
        return figure, sentences(*text, Message(told))
    _mark_even_odds(figure)
    return figure, sentences(*text, Message("Shown: each head's probability of {}.", names[1]))


def _of_values(
    outputs: EpochOutputs, names: Sequence[str], heads: tuple[Tensor, Tensor]
) -> tuple[go.Figure, str]:
    groups = _columns(heads[0].double().numpy(), heads[1].double().numpy(), names)
    correlations = []
    for name, x, y in groups:
        known = x.std() * y.std() > 0 and len(x) > 1
        value = f"{np.corrcoef(x, y)[0, 1]:.2f}" if known else Message("undefined")
        correlations.append(Message("{} {}", name, value))
    figure = _scatter(groups, outputs)
    if len(groups) > 1:  # in units of their own
        add_menu(figure, [name for name, _, _ in groups], range(len(groups)))
    figure.update_layout(showlegend=False)
    text = Message("Correlation of the two heads' values: {}.", correlations)
    return figure, sentences(text, _first_of(MOST_LABELS, len(names), "targets"))


def _columns(spectra: np.ndarray, tabular: np.ndarray, names: Sequence[str]) -> list[Group]:
    """The first labels or targets with both heads' scores [N, C] of them."""
    return [(name, spectra[:, n], tabular[:, n]) for n, name in enumerate(names[:MOST_LABELS])]


def _first_of(shown: int, number: int, what: str) -> str:
    told = f"Shown: the first {{}} of {{}} {what}."
    return Message(told, shown, number) if number > shown else ""


def _scatter(groups: Sequence[Group], outputs: EpochOutputs) -> go.Figure:
    figure = go.Figure()
    texts = shown_names([name for name, _, _ in groups])
    for number, (text, (_, x, y)) in enumerate(zip(texts, groups, strict=True)):
        here = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        figure.add_scatter(
            x=x[here],
            y=y[here],
            text=[shown_name(outputs.sample_id[i], LONGEST_ID) for i in here],
            mode="markers",
            marker={"size": 8, "opacity": 0.7, "color": PALETTE[number % len(PALETTE)]},
            name=text,
            hovertemplate="%{text}: spectra %{x:.3g}, covariates %{y:.3g}"
            "<extra>%{fullData.name}</extra>",
        )
    figure.update_xaxes(title_text="spectra head", zeroline=False)
    figure.update_yaxes(title_text="covariates head", zeroline=False)
    return figure.update_layout(height=480, showlegend=True, hovermode="closest")


def _mark_even_odds(figure: go.Figure) -> None:
    """Lines at a probability of 0.5 of each head."""
    line = {**GUIDE, "width": 1}
    figure.add_vline(x=0.5, line=line)
    figure.add_hline(y=0.5, line=line)
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.02])


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
NONE = sentences(
    "The model returns no attention_weights.",
    "To have them drawn, return a dict of tensors [B, ...] under that name, such as the weight of "
    "each scan [B, S].",
)


def weight_sections(
    summary: AttentionSummary, covariate_names: Sequence[str] | None = None
) -> list[Section]:
    """A section for each kind of attention weights that the model returns, gates left out.

    Features of one name, the bins of a covariate, are shown as one.
    """
    rows = None if covariate_names is None else list(dict.fromkeys(covariate_names))
    sections = []
    for number, (name, scans) in enumerate(summary.over_scans.items()):
        heading = Message("{}: over the scans of a sample", _words(name))
        figure, text = _spread_figure(scans), _spread_text(scans)
        sections.append(Section(f"scans-{number}", heading, figure, text))
    for number, (name, weights) in enumerate(summary.means.items()):
        if is_gate(name):
            continue
        if covariate_names is not None:
            weights = _by_name(weights, covariate_names)
        heading, mean = _words(name), weights.mean
        if mean.ndim == 1:
            figure = _bars(weights, rows)
        elif mean.ndim in (2, 3):
            figure = _matrices(weights, rows)
        else:
            continue
        which = ", of each scan over the samples that have it" if "scan" in weights.axes else ""
        text = Message(f"Mean over {{}} samples{which}.", summary.samples)
        sections.append(Section(f"weights-{number}", heading, figure, text))
    if not (sections or summary.means):
        return [Section("none", "No attention", text=NONE)]
    return sections


def _by_name(weights: MeanWeights, names: Sequence[str]) -> MeanWeights:
    """The weights with one entry for each name along their axes over covariates.

    Shares, which add up to 1 over the axis, are summed; others are averaged.
    """
    place = {name: number for number, name in enumerate(dict.fromkeys(names))}
    owner = torch.tensor([place[name] for name in names], dtype=torch.long)
    mean = weights.mean
    counts = torch.bincount(owner)
    for axis, of in enumerate(weights.axes):
        if of != "covariate":
            continue
        whole = mean.sum(dim=axis)
        shape = [len(place) if n == axis else size for n, size in enumerate(mean.shape)]
        mean = mean.new_zeros(shape).index_add(axis, owner, mean)
        if not torch.allclose(whole, torch.ones_like(whole), atol=1e-3):
            mean = mean / counts.reshape([-1 if n == axis else 1 for n in range(mean.ndim)])
    return replace(weights, mean=mean, spread=None)


def _words(name: str) -> Message:
    """The name of a kind of weights, with the number of its layer."""
    text, _, number = name.replace("_", " ").rpartition(" ")
    if number.isdecimal():
        return Message(f"{text} {{}}", number).capitalized
    return Message(name.replace("_", " ")).capitalized


def _spread_text(weights: ScanWeights) -> str:
    several = weights.scans > 1
    if not several.any():
        return Message("Every sample has one scan.")
    effective, scans = weights.effective[several], weights.scans[several]
    return Message(
        "Samples with several scans: {} scans on average, effectively {} (exp of the entropy, mean "
        "{} nats; with equal weights {}).",
        *(f"{scans.double().mean():.2f}", f"{effective.mean():.2f}"),
        figure_text(float(weights.entropy[several].mean()), 2),
        f"{scans.double().log().mean():.2f}",
    )


def _spread_figure(weights: ScanWeights) -> go.Figure:
    """Effective scans against scans, and how often each entropy occurs."""
    scans, effective = weights.scans.numpy(), weights.effective.numpy()
    figure = make_subplots(
        2, 1, subplot_titles=["effective number of scans", "entropy relative to equal weights"]
    )
    points = {"boxpoints": "all", "jitter": 0.4, "pointpos": 0, "marker_color": PALETTE[0]}
    figure.add_box(x=scans, y=effective, name="samples", row=1, col=1, **points)
    most = int(scans.max())
    figure.add_scatter(
        x=[1, most], y=[1, most], mode="lines", line=GUIDE, name="equal weights", row=1, col=1
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
    return figure.update_layout(height=640, showlegend=True)


def _labels(axis: str, size: int, covariate_names: Sequence[str] | None) -> list[str]:
    if axis == "covariate" and covariate_names is not None:
        return shown_names(covariate_names, LONGEST_NAME)
    return [Message(f"{axis} {{}}", number + 1) for number in range(size)]


def _bars(weights: MeanWeights, covariate_names: Sequence[str] | None) -> go.Figure:
    values, (axis,) = weights.mean.numpy(), weights.axes
    if len(values) > MOST_BARS and axis != "covariate":
        figure = go.Figure(go.Scatter(y=values, mode="lines", line={"color": PALETTE[0]}))
        titles = {"xaxis_title_text": axis, "yaxis_title_text": "weight"}
        return figure.update_layout(height=320, **titles)
    order = np.argsort(-values, kind="stable")[:MOST_BARS]
    names = _labels(axis, len(values), covariate_names)
    shown = [names[i] for i in order]
    figure = go.Figure(go.Bar(x=values[order], y=shown, orientation="h", marker_color=PALETTE[0]))
    list_names(figure)
    height = FRAME + BAR_HEIGHT * len(order)
    return figure.update_layout(height=height, xaxis_title_text="weight")


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
        subplot_titles=[Message("head {}", n + 1) for n in range(heads)] if heads > 1 else None,
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
    # From zero, so that weights that are nearly equal look so.
    colours = {"colorscale": "Blues", "cmin": 0, "cmax": float(mean.max())}
    bar = {"title": {"text": "weight", "side": "right"}, "thickness": 12}
    height = MATRIX_HEIGHT * rows + (80 if names[1] else 0)
    return figure.update_layout(height=height, coloraxis={**colours, "colorbar": bar})

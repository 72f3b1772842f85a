"""How much the covariates move the spectra, and whether the modalities agree, drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from torch import Tensor

from engine.metrics import TASKS, AttentionSummary, EpochOutputs, MeanWeights
from engine.reporting import figure_text
from experiments.report.figures.common import PALETTE
from experiments.report.figures.figure_page import Section
from experiments.report.figures.menu import add_menu
from experiments.report.figures.text import shown_name, shown_names

GATE = "gate"
# What a gate of 1 and one of 0 let pass, where that is known.
MEANINGS = {
    "spectra_gate": "1 adds all of the spectra's new features, 0 none",
    "fusion_gate": "1 passes the spectra on, 0 the covariates",
}
# Beyond that a feature's gate is called one that depends on the sample.
MOVING = 0.1
BAND = "rgba(0, 114, 178, 0.25)"
LONGEST_ID, MOST_LABELS = 60, len(PALETTE)


def is_gate(name: str) -> bool:
    """Whether weights of that name are a gate's, not an attention's."""
    return name.endswith(GATE)


def gate_sections(summary: AttentionSummary, movement: Tensor | None = None) -> list[Section]:
    """Sections on what covariates do to the spectra's vector; none of a model without a gate.

    Args:
        summary: Holds the gates' means and spreads, among other weights.
        movement: How far the covariates move each sample's vector (:class:`engine.explain.Gates`),
            [N].
    """
    sections = []
    if movement is not None and len(movement):
        sections.append(
            Section(
                "movement",
                "Effect of the covariates on the spectra",
                _movement(movement.double().numpy()),
                _movement_text(movement.double().numpy()),
            )
        )
    gates = {name: found for name, found in summary.means.items() if is_gate(name)}
    for number, (name, found) in enumerate(gates.items()):
        if found.mean.ndim != 1:
            continue
        heading = name.replace("_", " ").capitalize()
        text = _gate_text(name, found, summary.samples)
        sections.append(Section(f"gate-{number}", heading, _gate(found), text))
    return sections


def _movement(values: np.ndarray) -> go.Figure:
    figure = go.Figure(go.Histogram(x=values, nbinsx=30, marker_color=PALETTE[0]))
    figure.add_vline(x=float(np.median(values)), line={"dash": "dot", "color": PALETTE[1]})
    figure.update_xaxes(title_text="relative movement", rangemode="tozero")
    figure.update_yaxes(title_text="samples")
    figure.update_layout(height=320, bargap=0.03, showlegend=False)
    return figure


def _movement_text(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return (
        f"Relative to covariates of zeros, a sample's covariates move the gated vector of its "
        f"spectra by {middle:.1%} of its length (median; 80% of the samples: {low:.1%} to "
        f"{high:.1%})."
    )


def _gate_text(name: str, found: MeanWeights, samples: int) -> str:
    text = f"{len(found.mean)} features, mean over {samples} samples, the most open first"
    text += f" ({MEANINGS[name]})." if name in MEANINGS else "."
    text += f" The gate is {figure_text(float(found.mean.mean()), 2)} on average."
    if found.spread is not None:
        moving = int((found.spread > MOVING).sum())
        spread = figure_text(float(found.spread.mean()), 3)
        text += (
            f" Its standard deviation over the samples is {spread} (mean over the features), and "
            f"above {MOVING} for {moving} of {len(found.mean)} features."
        )
    return text


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
        text=[f"feature {number + 1}" for number in order],
        hovertemplate="%{text}: %{y:.3f}<extra></extra>",
    )
    figure.update_xaxes(title_text="features, the most open first")
    figure.update_yaxes(title_text="gate", range=[0, 1.02])
    figure.update_layout(height=360, showlegend=True)
    return figure


def agreement_section(
    outputs: EpochOutputs, names: Sequence[str], heads: tuple[Tensor, Tensor]
) -> Section:
    """Predictions of the spectra head against those of the covariates head.

    Args:
        outputs: Of the whole model.
        names: Of the classes, the labels or the regression's targets.
        heads: Scores of the spectra's and of the covariates' head, [N, C] each, in the outputs'
            units.
    """
    make = _of_values if outputs.task == "regression" else _of_decisions
    figure, text = make(outputs, names, heads)
    return Section("agreement", "Agreement of the modalities", figure, text)


def _of_decisions(
    outputs: EpochOutputs, names: Sequence[str], heads: tuple[Tensor, Tensor]
) -> tuple[go.Figure, str]:
    task = TASKS[outputs.task]
    spectra, tabular = (task.scores(head).numpy() for head in heads)
    says_spectra, says_tabular = (task.decide(task.scores(head)).numpy() for head in heads)
    target, final = outputs.target.numpy(), outputs.predictions.numpy()
    differ = says_spectra != says_tabular
    what = "labels" if outputs.task == "multilabel" else "samples"
    text = f"The two heads agree on {1 - differ.mean():.0%} of the {what}."
    if differ.any():
        right = [float((said == target)[differ].mean()) for said in (says_spectra, says_tabular)]
        text += (
            f" Where they differ, the spectra head is right in {right[0]:.0%}, the covariates head "
            f"in {right[1]:.0%}, the whole model in "
            f"{float((final == target)[differ].mean()):.0%}."
        )
    if outputs.task == "multilabel":
        groups = [
            (name, spectra[:, number], tabular[:, number])
            for number, name in enumerate(names[:MOST_LABELS])
        ]
        figure = _scatter(groups, outputs)
        _mark_even_odds(figure)
        text += " Shown: each head's probability of a label."
        return figure, text + _first_of(MOST_LABELS, len(names), "labels")
    # Of two classes the positive one; of more the one that the whole model decides for.
    rows = np.arange(len(target))
    binary = outputs.task == "binary"
    shown = np.ones_like(final) if binary else final
    groups = [
        (
            f"true {name}",
            np.where(target == number, spectra[rows, shown], np.nan),
            np.where(target == number, tabular[rows, shown], np.nan),
        )
        for number, name in enumerate(names)
        if (target == number).any()
    ]
    figure = _scatter(groups, outputs)
    if binary:
        _mark_even_odds(figure)
    of = names[1] if binary else "the class predicted by the whole model"
    return figure, f"{text} Shown: each head's probability of {of}."


def _of_values(
    outputs: EpochOutputs, names: Sequence[str], heads: tuple[Tensor, Tensor]
) -> tuple[go.Figure, str]:
    spectra, tabular = (head.double().numpy() for head in heads)
    groups = [
        (name, spectra[:, number], tabular[:, number])
        for number, name in enumerate(names[:MOST_LABELS])
    ]
    said = []
    for name, x, y in groups:
        spread = x.std() * y.std()
        known = spread > 0 and len(x) > 1
        said.append(f"{name} {np.corrcoef(x, y)[0, 1]:.2f}" if known else f"{name} undefined")
    figure = _scatter(groups, outputs)
    if len(groups) > 1:  # in units of their own
        add_menu(figure, [name for name, _, _ in groups], range(len(groups)))
    figure.update_layout(showlegend=False)
    text = f"Correlation of the two heads' values: {', '.join(said)}."
    return figure, text + _first_of(MOST_LABELS, len(names), "targets")


def _first_of(shown: int, number: int, what: str) -> str:
    return f" Shown: the first {shown} of {number} {what}." if number > shown else ""


def _scatter(
    groups: Sequence[tuple[str, np.ndarray, np.ndarray]], outputs: EpochOutputs
) -> go.Figure:
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
    figure.update_layout(height=480, showlegend=True, hovermode="closest")
    return figure


def _mark_even_odds(figure: go.Figure) -> None:
    """Where each head's decision turns."""
    style = {"dash": "dot", "color": "grey", "width": 1}
    figure.add_vline(x=0.5, line=style)
    figure.add_hline(y=0.5, line=style)
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.02])

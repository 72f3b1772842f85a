"""How the figures of a decision move with its threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from engine.metrics import THRESHOLD, EpochOutputs
from engine.statistics import threshold_table
from experiments.report.figures.common import PALETTE, ranked_scores
from experiments.report.figures.figure_page import Section
from experiments.report.figures.menu import add_menu

# Figure -> what it is called.
SHOWN = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "balanced_accuracy": "balanced accuracy",
}
THRESHOLDS = np.linspace(0, 1, 201)


def threshold_sections(outputs: EpochOutputs, names: Sequence[str]) -> list[Section]:
    """A section with sensitivity, specificity, precision, F1 and balanced accuracy by threshold.

    Args:
        outputs: Of any task.
        names: Of the classes or the labels.

    Returns:
        Nothing where nothing can be ranked: of a regression, and of samples of one class.
    """
    if outputs.task == "regression" or outputs.diverged:
        return []
    figure = go.Figure()
    ranked: list[str] = []
    belongs: list[int] = []
    for _, name, scores, positive in ranked_scores(outputs, names):
        table = threshold_table(scores, positive, THRESHOLDS)
        for number, (key, shown) in enumerate(SHOWN.items()):
            figure.add_scatter(
                x=THRESHOLDS,
                y=table[key],
                mode="lines",
                name=shown,
                line={"color": PALETTE[number]},
            )
            belongs.append(len(ranked))
        ranked.append(name)
    if not ranked:
        return []
    if len(ranked) > 1:
        add_menu(figure, ranked, belongs)
    figure.add_vline(x=THRESHOLD, line={"dash": "dot", "color": "grey"})
    figure.update_xaxes(title_text="threshold", range=[0, 1])
    figure.update_yaxes(title_text="value", range=[0, 1.02])
    figure.update_layout(height=420, hovermode="x")
    text = (
        "A sample is predicted positive if its probability reaches the threshold. The dotted line "
        f"is at {THRESHOLD}, which the metrics use. These are test samples: a threshold chosen on "
        "them looks better than it is."
    )
    return [Section("thresholds", "Threshold sensitivity", figure, text)]

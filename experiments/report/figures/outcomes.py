"""Figures of predictions against truth: ranking, confusion, thresholds, reliability, residuals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from datasets.messages import Message
from engine.metrics import THRESHOLD, EpochOutputs
from engine.reporting import figure_text, make_panels
from engine.statistics import Calibration, threshold_table
from experiments.analysis import ranked_outputs, ranked_scores
from experiments.report.figures.figure_page import (
    GUIDE,
    LONGEST_ID,
    PALETTE,
    Section,
    add_diagonal,
    add_menu,
    shown_name,
    shown_names,
)
from experiments.report.text import RELIABILITY_FIGURES, about_temperature

SIDE_COLOURS = {"train": PALETTE[1], "val": PALETTE[0]}
PANEL_HEIGHT, PANELS_A_ROW = 260, 2


def training_curves(epochs: list[dict[str, Any]]) -> go.Figure:
    """Every metric of a log's rows over the epochs, training and validation in one panel."""
    panels = make_panels(epochs)
    rows = -(-len(panels) // PANELS_A_ROW)
    figure = make_subplots(
        rows,
        PANELS_A_ROW,
        subplot_titles=[panel["title"] for panel in panels],
        vertical_spacing=0.28 / rows,
    )
    for number, panel in enumerate(panels):
        for line in panel["lines"]:
            figure.add_scatter(
                x=line["epochs"],
                y=line["values"],
                mode="lines" if len(line["epochs"]) > 1 else "markers",
                name=line["name"],
                legendgroup=line["side"],
                showlegend=number == 0,
                line={"color": SIDE_COLOURS.get(line["side"], PALETTE[2])},
                row=number // PANELS_A_ROW + 1,
                col=number % PANELS_A_ROW + 1,
            )
    figure.update_layout(height=PANEL_HEIGHT * rows, hovermode="x", legend={"y": -0.04})
    figure.update_xaxes(title_text="epoch", row=rows)
    return figure


def unranked(outputs: EpochOutputs, names: Sequence[str]) -> list[str]:
    """Names of what no curve is defined for: all samples, or none, are positive."""
    found = ranked_outputs(outputs, names)
    return [name for _, name, _, positive in found if positive.all() or not positive.any()]


def about_unranked(outputs: EpochOutputs, names: Sequence[str]) -> str:
    """A sentence on what no curve is defined for; empty where each has one."""
    missing = unranked(outputs, names)
    told = "Undefined because all samples are of one class: {}."
    return Message(told, missing) if missing else ""


def say_undefined(figure: go.Figure, **place: Any) -> None:
    """Write into a panel that nothing can be drawn there."""
    text = {"text": "undefined", "showarrow": False, "font": {"size": 16, "color": "grey"}}
    figure.add_annotation(x=0.5, y=0.5, xref="x domain", yref="y domain", **text, **place)


def ranking_curves(outputs: EpochOutputs, class_names: Sequence[str]) -> go.Figure:
    """ROC and precision-recall curves of what can be ranked; the legend names what cannot be."""
    figure = make_subplots(1, 2, subplot_titles=["ROC", "precision and recall"])
    for number, name, scores, positive in ranked_scores(outputs, class_names):
        style = {"color": PALETTE[number % len(PALETTE)]}
        false_rate, true_rate, _ = roc_curve(positive, scores)
        precision, recall, _ = precision_recall_curve(positive, scores)
        common = {"mode": "lines", "line": style, "name": shown_name(name), "legendgroup": name}
        figure.add_scatter(x=false_rate, y=true_rate, row=1, col=1, **common)
        figure.add_scatter(x=recall, y=precision, row=1, col=2, showlegend=False, **common)
    drawn = bool(figure.data)
    for name in unranked(outputs, class_names):
        title = Message("{}: undefined", shown_name(name))
        figure.add_scatter(x=[None], y=[None], mode="lines", line=GUIDE, name=title, row=1, col=1)
    if drawn:
        ends = {"x": [0, 1], "y": [0, 1], "row": 1, "col": 1}
        figure.add_scatter(mode="lines", line=GUIDE, name="chance", **ends)
    else:
        for column in (1, 2):
            say_undefined(figure, row=1, col=column)
    figure.update_xaxes(title_text="false positive rate", row=1, col=1)
    figure.update_yaxes(title_text="true positive rate", row=1, col=1)
    figure.update_xaxes(title_text="recall", row=1, col=2)
    figure.update_yaxes(title_text="precision", range=[0, 1.02], row=1, col=2)
    return figure.update_layout(height=420)


def confusion(outputs: EpochOutputs, class_names: Sequence[str]) -> go.Figure:
    """Counts of true against predicted class, or for each label its four counts."""
    names = shown_names(class_names)
    predicted, true = outputs.predictions.numpy(), outputs.target.numpy()
    if outputs.task == "multilabel":
        predicted, true = predicted > 0, true > 0
        kinds = {
            "present, found": predicted & true,
            "present, missed": ~predicted & true,
            "absent, but found": predicted & ~true,
            "absent, not found": ~predicted & ~true,
        }
        counts = np.stack([kind.sum(axis=0) for kind in kinds.values()], axis=1)
        columns, hover = list(kinds), "%{y} %{x}: %{z}<extra></extra>"
    else:
        counts = confusion_matrix(true, predicted, labels=np.arange(len(names)))
        columns, hover = names, "true %{y}, predicted %{x}: %{z}<extra></extra>"
    figure = go.Figure(
        go.Heatmap(z=counts, x=columns, y=names, texttemplate="%{z}", colorscale="Blues")
    )
    figure.update_traces(showscale=False, zmin=0, hovertemplate=hover)
    if outputs.task != "multilabel":
        figure.update_layout(xaxis_title_text="predicted", yaxis_title_text="true")
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed")
    return figure.update_layout(height=380)


def score_histogram(outputs: EpochOutputs, class_names: Sequence[str]) -> go.Figure:
    """Histograms of the predicted probabilities of one class by true class, or of each label."""
    if outputs.task == "multilabel":
        return _scores_of_labels(outputs, class_names)
    shown = 1 if outputs.task == "binary" else int(outputs.target.mode().values)
    scores, target = outputs.probabilities[:, shown].numpy(), outputs.target.numpy()
    figure = go.Figure()
    for number, name in enumerate(map(shown_name, class_names)):
        figure.add_histogram(
            x=scores[target == number],
            name=Message("true {}", name),
            marker_color=PALETTE[number % len(PALETTE)],
            xbins={"start": 0, "end": 1, "size": 0.05},
        )
    figure.update_traces(opacity=0.6)
    title = Message("predicted probability of {}", shown_name(class_names[shown]))
    figure.update_xaxes(title_text=title, range=[0, 1])
    return figure.update_layout(barmode="overlay", height=380, yaxis_title_text="samples")


def _scores_of_labels(outputs: EpochOutputs, names: Sequence[str]) -> go.Figure:
    scores, target = outputs.probabilities.numpy(), outputs.target.numpy() > 0
    names = shown_names(names)
    labels = np.broadcast_to(np.array(names, dtype=object), scores.shape)
    figure = go.Figure()
    for number, (side, chosen) in enumerate((("absent", ~target), ("present", target))):
        figure.add_box(
            x=labels[chosen],
            y=scores[chosen],
            name=Message("true {}", Message(side)),
            marker_color=PALETTE[number],
            boxpoints="all",
            jitter=0.4,
            pointpos=0,
        )
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=names)
    figure.update_yaxes(title_text="predicted probability", range=[-0.02, 1.02])
    return figure.update_layout(boxmode="group", height=380)


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
    """A section with figures by threshold; none where nothing can be ranked."""
    if outputs.task == "regression" or outputs.diverged:
        return []
    figure = go.Figure()
    ranked: list[str] = []
    belongs: list[int] = []
    for _, name, scores, positive in ranked_scores(outputs, names):
        table = threshold_table(scores, positive, THRESHOLDS)
        for number, (key, shown) in enumerate(SHOWN.items()):
            line = {"color": PALETTE[number]}
            figure.add_scatter(x=THRESHOLDS, y=table[key], mode="lines", name=shown, line=line)
            belongs.append(len(ranked))
        ranked.append(name)
    if not ranked:
        return []
    if len(ranked) > 1:
        add_menu(figure, ranked, belongs)
    figure.add_vline(x=THRESHOLD, line=GUIDE)
    figure.update_xaxes(title_text="threshold", range=[0, 1])
    figure.update_yaxes(title_text="value", range=[0, 1.02])
    figure.update_layout(height=420, hovermode="x")
    text = (
        "A sample is predicted positive if its probability reaches the threshold. The dotted line "
        f"is at {THRESHOLD}, which the metrics use. These are test samples: a threshold chosen on "
        "them looks better than it is."
    )
    return [Section("thresholds", "Threshold sensitivity", figure, text)]


SIDES = (("uncalibrated", PALETTE[1]), ("after temperature scaling", PALETTE[0]))
# In pixels, of a bin's mark.
SMALLEST, LARGEST = 5.0, 18.0


def reliability_section(calibration: Calibration, task: str, class_names: Sequence[str]) -> Section:
    """Observed frequency against predicted probability, before and after temperature scaling."""
    before, after = calibration.before, calibration.after
    text = Message(
        "On the diagonal probabilities are perfectly calibrated; a larger mark stands for more "
        "samples. The temperature fitted on the validation set is {}: {}. All other figures of "
        "this page use the uncalibrated probabilities.",
        *(f"{calibration.temperature:.3g}", about_temperature(calibration)),
    )
    rows = [
        (name, figure_text(getattr(before, key)), figure_text(getattr(after, key)))
        for name, key in RELIABILITY_FIGURES.items()
    ]
    table = [("", *(name for name, _ in SIDES)), *rows]
    probability = "probability of the most likely class"
    if task == "binary":
        probability = Message("predicted probability of {}", shown_name(class_names[1]))
    elif task == "multilabel":
        probability = "predicted probability of a label"
    figure = _reliability(calibration, probability)
    return Section("reliability", "Reliability", figure, text, table)


def _reliability(calibration: Calibration, probability: str) -> go.Figure:
    figure = go.Figure()
    line = {**GUIDE, "width": 1}
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line=line, name="perfect", hoverinfo="skip"
    )
    for (name, colour), side in zip(SIDES, (calibration.before, calibration.after), strict=True):
        figure.add_scatter(
            x=side.confidence,
            y=side.share,
            customdata=side.count,
            mode="lines+markers",
            line={"color": colour, "width": 1},
            marker={"size": _sizes(side.count), "opacity": 0.85},
            name=name,
            hovertemplate="predicted %{x:.3f}, observed %{y:.3f}, %{customdata} samples"
            "<extra></extra>",
        )
    axis = {"range": [-0.03, 1.03], "dtick": 0.2, "zeroline": False}
    figure.update_xaxes(title_text=probability, **axis)
    figure.update_yaxes(title_text="observed frequency", **axis)
    return figure.update_layout(height=460, showlegend=True)


def _sizes(count: np.ndarray) -> np.ndarray:
    """Sizes of marks, whose areas grow with the samples."""
    shares = np.sqrt(count / max(1, int(count.max(initial=0))))
    sizes: np.ndarray = SMALLEST + (LARGEST - SMALLEST) * shares
    return sizes


ROW_HEIGHT = 400


def predicted_against_true(outputs: EpochOutputs, names: Sequence[str]) -> go.Figure:
    """One panel per target and one point per sample, with the diagonal."""
    titles = shown_names(names) if len(names) > 1 else None
    figure = make_subplots(len(names), 1, subplot_titles=titles)
    pairs = zip(outputs.target.numpy().T, outputs.predictions.numpy().T, strict=True)
    for row, (true, predicted) in enumerate(pairs, start=1):
        place = {"row": row, "col": 1}
        hover = "%{text}: true %{x:.4g}, predicted %{y:.4g}<extra></extra>"
        figure.add_scatter(
            x=true, y=predicted, name="sample", hovertemplate=hover, **_points(outputs), **place
        )
        add_diagonal(figure, true, predicted, showlegend=row == 1, **place)
    figure.update_xaxes(title_text="true")
    figure.update_yaxes(title_text="predicted")
    return figure.update_layout(height=ROW_HEIGHT * len(names))


def residuals(outputs: EpochOutputs, names: Sequence[str]) -> go.Figure:
    """Residuals over the predicted values, and their histogram."""
    figure = make_subplots(
        len(names),
        2,
        column_widths=[0.68, 0.32],
        shared_yaxes=True,
        horizontal_spacing=0.03,
        row_titles=shown_names(names) if len(names) > 1 else None,
    )
    pairs = zip(outputs.target.numpy().T, outputs.predictions.numpy().T, strict=True)
    for row, (true, predicted) in enumerate(pairs, start=1):
        missed = predicted - true
        hover = "%{text}: predicted %{x:.4g}, residual %{y:.4g}<extra></extra>"
        figure.add_scatter(
            x=predicted, y=missed, hovertemplate=hover, **_points(outputs), row=row, col=1
        )
        figure.add_histogram(
            y=missed,
            marker_color=PALETTE[0],
            opacity=0.7,
            hovertemplate="residual %{y}: %{x} samples<extra></extra>",
            showlegend=False,
            row=row,
            col=2,
        )
        figure.add_hline(y=0, line=GUIDE, row=row, col=1)
    figure.update_yaxes(title_text="predicted - true", col=1)
    figure.update_xaxes(title_text="predicted", row=len(names), col=1)
    figure.update_xaxes(title_text="samples", row=len(names), col=2)
    return figure.update_layout(height=ROW_HEIGHT * len(names))


def _points(outputs: EpochOutputs) -> dict[str, Any]:
    return {
        "text": [shown_name(name, LONGEST_ID) for name in outputs.sample_id],
        "mode": "markers",
        "marker": {"color": PALETTE[0], "opacity": 0.7},
        "showlegend": False,
    }


def outcome_sections(outputs: EpochOutputs, names: Sequence[str]) -> list[Section]:
    """Sections on how predictions and truth agree."""
    if outputs.task == "regression":
        against_true = predicted_against_true(outputs, names)
        return [
            Section("predictions", "Predicted against true", against_true),
            Section("residuals", "Residuals", residuals(outputs, names)),
        ]
    heading = "Each label" if outputs.task == "multilabel" else "Confusion matrix"
    undefined, curves = about_unranked(outputs, names), ranking_curves(outputs, names)
    return [
        Section("ranking", "Ranking", curves, undefined),
        Section("confusion", heading, confusion(outputs, names)),
        Section("scores", "Predicted probabilities", score_histogram(outputs, names)),
    ]

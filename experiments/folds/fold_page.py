"""The page of a cross-validation: audit, verdict, leaderboard, folds, curves, hard samples."""

from __future__ import annotations

import math
from pathlib import Path

import plotly.graph_objects as go

from engine.reporting import with_bounds
from experiments.analysis import audit_summary, finding_number
from experiments.comparison import overlaid_predictions, roc_curves
from experiments.folds.fold_leaderboard import FoldLeaderboard, always_wrong, title
from experiments.folds.fold_text import (
    DEPENDENT,
    POOLED,
    WRONG_HEAD,
    about_tests,
    heading,
    leaderboard_cells,
    notes,
    wrong_heading,
)
from experiments.folds.out_of_fold import RECOMMENDED
from experiments.report.figures import PALETTE, Section, shown_names, write_figure_page

PAGE_NAME = "cross_validation.html"
ROW_HEIGHT, FRAME_HEIGHT = 26, 110  # in pixels
# Of a kind of model: recommended, networks, baselines.
COLOURS = {RECOMMENDED: PALETTE[2], "network": PALETTE[0], "baseline": PALETTE[1]}
# Curves of more models cannot be told apart.
MOST_CURVES = len(PALETTE)


def write_fold_page(board: FoldLeaderboard, folder: Path) -> Path:
    """Write the page; it is one file and asks the network for nothing."""
    found = board.found
    audit = [["level", "number", "finding"]]
    audit += [[f.level, str(finding_number(f)), str(f.sentence)] for f in board.audit]
    curves = {
        str(title(found, model)): found.pooled(model)
        for model in [RECOMMENDED, *found.best_first][:MOST_CURVES]
    }
    if found.task == "regression":
        pooled = Section(
            "predictions", "Predicted against true", overlaid_predictions(curves, found.names)
        )
    else:
        pooled = Section(
            "roc", "ROC of the pooled predictions", roc_curves(curves, found.names), text=POOLED
        )
    wrong = always_wrong(found)
    sections = [
        Section(
            "audit",
            "Audit",
            text=f"{audit_summary(board.audit).capitalize()}.",
            table=audit if board.audit else None,
        ),
        Section("verdict", "Verdict", text=f"{board.verdict[:1].upper()}{board.verdict[1:]}."),
        Section(
            "leaderboard",
            f"Leaderboard: pooled {found.metric}",
            forest(board),
            text=about_tests(board),
            table=leaderboard_cells(board),
        ),
        Section("folds", f"{found.metric} of each {found.plan.kind}", dots(board), text=DEPENDENT),
        pooled,
        Section(
            "wrong",
            wrong_heading(board),
            text="" if wrong else "None.",
            table=[WRONG_HEAD, *wrong] if wrong else None,
        ),
    ]
    if board.permutations is not None:
        sections.append(Section("permutations", "Permutation test", permutation_bars(board)))
    if board.learning is not None:
        sections.append(Section("learning", "Learning curve", learning_lines(board)))
    sections.append(Section("notes", "Notes", text=" ".join(notes(board))))
    name = f"{found.plan.base.exp_name}: cross-validation"
    return write_figure_page(folder / PAGE_NAME, name, heading(board), sections)


def forest(board: FoldLeaderboard) -> go.Figure:
    """The pooled figure of each model with its interval, the first model on top."""
    figure, found = go.Figure(), board.found
    names = shown_names(title(found, model) for model in board.table["model"])
    for kind, rows in board.table.groupby("kind", sort=False):
        figures = [board.pooled[model][found.metric] for model in rows["model"]]
        low, high = (
            [
                0.0 if math.isnan(end) else abs(of.value - end)
                for of, end in zip(figures, ends, strict=True)
            ]
            for ends in ([of.low for of in figures], [of.high for of in figures])
        )
        figure.add_scatter(
            x=[of.value for of in figures],
            y=[names[row] for row in rows.index],
            mode="markers",
            name=str(kind),
            marker={"color": COLOURS[str(kind)], "size": 9},
            error_x={"symmetric": False, "array": high, "arrayminus": low, "color": "grey"},
            text=[with_bounds(of) for of in figures],
            hovertemplate="%{y}: %{text}",
        )
    return _by_model(figure, names, found.metric)


def dots(board: FoldLeaderboard) -> go.Figure:
    """A dot for each model and fold, and a line at the mean of each model."""
    figure, found = go.Figure(), board.found
    names = shown_names(title(found, model) for model in board.table["model"])
    folds = shown_names(fold.name for fold in found.plan.folds)
    for row, (model, kind) in enumerate(
        zip(board.table["model"], board.table["kind"], strict=True)
    ):
        values = board.folds[model]
        figure.add_scatter(
            x=list(values),
            y=[names[row]] * len(values),
            mode="markers",
            marker={"color": COLOURS[kind], "size": 8, "opacity": 0.6},
            text=folds,
            hovertemplate=f"{found.plan.kind} %{{text}}: %{{x:.4g}}",
            name=kind,
            legendgroup=kind,
            showlegend=kind not in list(board.table["kind"][:row]),
        )
    figure.add_scatter(
        x=list(board.table["mean"]),
        y=names,
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 18, "color": "black"},
        name="mean",
        hovertemplate="mean %{x:.4g}",
    )
    return _by_model(figure, names, found.metric)


def permutation_bars(board: FoldLeaderboard) -> go.Figure:
    """A histogram of the permuted figures, and a line at the observed one."""
    tested = board.permutations
    assert tested is not None
    figure = go.Figure(go.Histogram(x=list(tested.permuted), name="permuted targets"))
    figure.add_vline(x=tested.observed, line={"color": PALETTE[1]}, annotation_text="observed")
    figure.update_xaxes(title_text=board.found.metric)
    figure.update_yaxes(title_text="permutations")
    return figure


def learning_lines(board: FoldLeaderboard) -> go.Figure:
    """The pooled figure of each baseline over the number of training samples."""
    figure, found = go.Figure(), board.found
    assert board.learning is not None
    for number, model in enumerate(found.baselines):
        own = board.learning[board.learning["model"] == model]
        figure.add_scatter(
            x=own["samples"],
            y=own[found.metric],
            mode="lines+markers",
            name=str(title(found, model)),
            line={"color": PALETTE[number % len(PALETTE)]},
        )
    figure.update_xaxes(title_text="training samples, mean over the folds")
    figure.update_yaxes(title_text=found.metric)
    return figure


def _by_model(figure: go.Figure, names: list[str], metric: str) -> go.Figure:
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], automargin=True)
    figure.update_xaxes(title_text=metric)
    figure.update_layout(height=FRAME_HEIGHT + ROW_HEIGHT * len(names))
    return figure

"""The page of a cross-validation: audit, verdict, leaderboard, folds, curves, hard samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go

from datasets.files import write_whole
from datasets.messages import Message, sentences
from datasets.splits import SUBSETS
from engine.reporting import figure_text, metric_message, with_bounds
from experiments.analysis import finding_number
from experiments.comparison import overlaid_predictions, roc_curves
from experiments.folds.fold_leaderboard import (
    FoldLeaderboard,
    Permutations,
    always_wrong,
    title,
)
from experiments.folds.fold_text import (
    DEPENDENT,
    about_tests,
    heading,
    kind_of,
    leaderboard_cells,
    notes,
)
from experiments.folds.out_of_fold import RECOMMENDED, OutOfFold
from experiments.report import Words, names_of_kinds
from experiments.report.figures import (
    PALETTE,
    Section,
    shown_name,
    shown_names,
    write_figure_page,
)
from experiments.report.text import escape_markdown

if TYPE_CHECKING:
    from datasets.audit import Finding
    from engine.metrics import EpochOutputs

TITLE = "{}: cross-validation"
PAGE_NAME, SUMMARY_NAME = "cross_validation.html", "summary.md"
FOUND = {
    "refuse": ("refusal", "refusals"),
    "warn": ("warning", "warnings"),
    "note": ("note", "notes"),
}
AUDIT_HEAD = ["level", "name", "number", "finding"]
WRONG_HEAD = ["sample", "group", "fold", "true", "predicted by the chosen model"]
POOLED = (
    "Of all test samples together, each predicted by a model that was not trained on its group. A "
    "pooled ranking compares scores of different models, which lowers it where their scales differ "
    '(Forman and Scholz 2010, "Apples-to-Apples in Cross-Validation Studies").'
)
ROW_HEIGHT, FRAME_HEIGHT = 26, 110  # in pixels
# Of a kind of model: recommended, networks, baselines.
COLOURS = {RECOMMENDED: PALETTE[2], "network": PALETTE[0], "baseline": PALETTE[1]}
# Curves of more models cannot be told apart.
MOST_CURVES = len(PALETTE)


def write_fold_page(board: FoldLeaderboard, folder: Path) -> Path:
    """Write ``summary.md`` and the page, one file that asks the network for nothing."""
    parts, plan = fold_sections(board), board.found.plan
    name = Message(TITLE, plan.base.exp_name)
    words = Words(plan.base.report.language, names_of(board))
    page = write_figure_page(folder / PAGE_NAME, name, heading(board), parts, words)
    write_whole(summary(board, parts).encode(), folder, SUMMARY_NAME, durable=False)
    return page


def names_of(board: FoldLeaderboard) -> set[str]:
    """The user's names on the page, which are not translated."""
    plan = board.found.plan
    of_folds = [fold.name for fold in plan.folds]
    groups = map(str, plan.cohort.groups)
    names = {plan.base.exp_name, *plan.candidates, *board.found.names, *of_folds, *groups}
    return names | set(plan.cohort.sample_ids) | names_of_kinds(plan.cohort)


def summary(board: FoldLeaderboard, parts: Sequence[Section]) -> str:
    """The sections of the page in Markdown, without the figures."""
    texts = [f"# {escape_markdown(board.found.plan.base.exp_name)}: {heading(board)}"]
    for part in parts:
        if not part.text and part.table is None:
            continue
        texts += [f"## {escape_markdown(part.heading)}", escape_markdown(part.text)]
        if part.table is not None:
            head, *rows = ([escape_markdown(cell) for cell in row] for row in part.table)
            lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
            texts.append("\n".join([lines[0], f"|---|{'---:|' * (len(head) - 1)}", *lines[1:]]))
    return "\n\n".join(filter(None, texts)) + "\n"


def fold_sections(board: FoldLeaderboard) -> list[Section]:
    """The parts of the page, in their order."""
    found, metric = board.found, metric_message(board.found.metric)
    # A message as a key is itself the name that the figure shows.
    curves: dict[str, EpochOutputs] = {
        title(found, model): found.pooled(model)
        for model in [RECOMMENDED, *found.best_first][:MOST_CURVES]
    }
    if found.task == "regression":
        drawn = overlaid_predictions(curves, found.names)
        pooled = Section("predictions", "Predicted against true", drawn, text=POOLED)
    else:
        drawn = roc_curves(curves, found.names)
        pooled = Section("roc", "ROC of the pooled predictions", drawn, text=POOLED)
    findings = [
        [_level(f), f.name, finding_number(f), Message("{}.", f.sentence)] for f in board.audit
    ]
    metrics = list(dict.fromkeys(board.metrics["metric"]))
    measured = [
        [title(found, model), *(with_bounds(of[name]) for name in metrics)]
        for model, of in board.pooled.items()
    ]
    measured.insert(0, [Message("model"), *map(metric_message, metrics)])
    sections = [
        Section("audit", "Audit", text=about_audit(board), table=_table(AUDIT_HEAD, findings)),
        Section("verdict", "Verdict", text=Message("{}.", board.verdict.capitalized)),
        Section(
            "leaderboard",
            "Leaderboard",
            forest(board),
            text=about_tests(board),
            table=leaderboard_cells(board),
        ),
        Section("metrics", "All metrics, pooled", table=measured),
        Section(
            "folds",
            Message("{} of each {}", metric, kind_of(board)),
            dots(board),
            text=DEPENDENT,
            table=fold_cells(board),
        ),
        pooled,
        Section(
            "wrong",
            "Samples with the largest errors of all models"
            if found.task == "regression"
            else "Samples that every model predicts wrongly",
            text="" if (wrong := always_wrong(found)) else "None.",
            table=_table(WRONG_HEAD, wrong),
        ),
    ]
    for number, tested in enumerate(board.permutations):
        name = f"permutations-{number}" if number else "permutations"
        head = Message("Permutation test of {}", title(found, tested.model))
        sections.append(Section(name, head, permutation_bars(tested, metric)))
    if board.learning is not None:
        lines = learning_lines(found, board.learning)
        sections.append(Section("learning", "Learning curve", lines))
    sections.append(Section("notes", "Notes", text=sentences(*notes(board))))
    sections.append(Section("data", "Data", table=_table(["data"], [[of] for of in board.about])))
    return sections


def about_audit(board: FoldLeaderboard) -> Message:
    """How many findings there are."""
    if not board.found.plan.base.audit.enabled:
        return Message("The data were not audited.")
    levels = [found.level for found in board.audit]
    told = [
        Message(f"{{}} {one if levels.count(level) == 1 else several}", levels.count(level))
        for level, (one, several) in FOUND.items()
        if level in levels
    ]
    return Message("{}.", told) if told else Message("Nothing was found.")


def _level(finding: Finding) -> Message:
    level = Message(finding.level)
    return Message("{} (accepted)", level) if finding.accepted else level


def _table(head: list[str], rows: list[list[str]]) -> list[list[str]] | None:
    return [head, *rows] if rows else None


def fold_cells(board: FoldLeaderboard) -> list[list[str]]:
    """The sizes of each fold, and the figure of the model that was chosen in it."""
    found, rows = board.found, []
    for number, fold in enumerate(found.plan.folds):
        name: str = fold.name
        if fold.repeat:
            name = Message("{} (repeat {})", name, fold.repeat)
        sizes = [str(int((fold.split == subset).sum())) for subset in SUBSETS]
        chosen = title(found, found.chosen[number])
        rows.append([name, *sizes, chosen, figure_text(board.folds[RECOMMENDED][number])])
    tested = Message("its test {}", metric_message(found.metric))
    return [[kind_of(board), *map(Message, SUBSETS), Message("chosen"), tested], *rows]


def forest(board: FoldLeaderboard) -> go.Figure:
    """The figure of each model with its interval, the first model on top."""
    figure, found = go.Figure(), board.found
    names = shown_names(title(found, model) for model in board.table["model"])
    for kind, rows in board.table.groupby("kind", sort=False):
        figures = [board.figure(model) for model in rows["model"]]
        figure.add_scatter(
            x=[of.value for of in figures],
            y=[names[row] for row in rows.index],
            mode="markers",
            name=Message(str(kind)),
            marker={"color": COLOURS[str(kind)], "size": 9},
            error_x={
                "symmetric": False,
                "array": [of.high - of.value for of in figures],
                "arrayminus": [of.value - of.low for of in figures],
                "color": "grey",
            },
            text=[with_bounds(of) for of in figures],
            hovertemplate="%{y}: %{text}",
        )
    told = Message("{}, {}", metric_message(found.metric), board.basis)
    return _by_model(figure, names, told)


def dots(board: FoldLeaderboard) -> go.Figure:
    """A dot for each model and fold, and a line at the mean of each model."""
    figure, found = go.Figure(), board.found
    names = shown_names(title(found, model) for model in board.table["model"])
    folds = shown_names(fold.name for fold in found.plan.folds)
    for kind, rows in board.table.groupby("kind", sort=False):
        figure.add_scatter(
            x=[value for model in rows["model"] for value in board.folds[model]],
            y=[names[row] for row in rows.index for _ in folds],
            mode="markers",
            marker={"color": COLOURS[str(kind)], "size": 8, "opacity": 0.6},
            text=folds * len(rows),
            hovertemplate="%{text}: %{x:.4g}",
            name=Message(str(kind)),
        )
    figure.add_scatter(
        x=list(board.table["mean"]),
        y=names,
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 18, "color": "black"},
        name=Message("mean"),
        hovertemplate="%{x:.4g}",
    )
    return _by_model(figure, names, metric_message(found.metric))


def permutation_bars(tested: Permutations, metric: str) -> go.Figure:
    """A histogram of the permuted figures, and a line at the observed one."""
    figure = go.Figure(go.Histogram(x=list(tested.permuted), name="permuted targets"))
    figure.add_vline(x=tested.observed, line={"color": PALETTE[1]}, annotation_text="observed")
    figure.update_xaxes(title_text=metric)
    figure.update_yaxes(title_text="permutations")
    return figure


def learning_lines(found: OutOfFold, learning: pd.DataFrame) -> go.Figure:
    """The pooled figure of each model over the number of training samples."""
    figure = go.Figure()
    for number, model in enumerate(dict.fromkeys(learning["model"])):
        own = learning[learning["model"] == model]
        figure.add_scatter(
            x=own["samples"],
            y=own[found.metric],
            mode="lines+markers",
            name=shown_name(title(found, model)),
            line={"color": PALETTE[number % len(PALETTE)]},
        )
    figure.update_xaxes(title_text="training samples, mean over the folds")
    figure.update_yaxes(title_text=metric_message(found.metric))
    return figure


def _by_model(figure: go.Figure, names: list[str], metric: str) -> go.Figure:
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], automargin=True)
    figure.update_xaxes(title_text=metric)
    figure.update_layout(height=FRAME_HEIGHT + ROW_HEIGHT * len(names))
    return figure

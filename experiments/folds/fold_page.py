"""The page of a cross-validation: audit, verdict, leaderboard, folds, curves, hard samples."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from datasets.files import write_whole
from datasets.splits import SUBSETS
from engine.reporting import figure_text, with_bounds
from experiments.analysis import audit_summary, finding_number
from experiments.comparison import overlaid_predictions, roc_curves
from experiments.folds.fold_leaderboard import FoldLeaderboard, Permutations, always_wrong, title
from experiments.folds.fold_text import DEPENDENT, about_tests, heading, leaderboard_cells, notes
from experiments.folds.out_of_fold import RECOMMENDED, OutOfFold
from experiments.report.figures import PALETTE, Section, shown_names, write_figure_page
from experiments.report.text import escape_markdown

PAGE_NAME, SUMMARY_NAME = "cross_validation.html", "summary.md"
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
    parts = fold_sections(board)
    name = f"{board.found.plan.base.exp_name}: cross-validation"
    page = write_figure_page(folder / PAGE_NAME, name, heading(board), parts)
    write_whole(summary(board, parts).encode(), folder, SUMMARY_NAME, durable=False)
    return page


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
    found, metric, kind = board.found, board.found.metric, board.found.plan.kind
    curves = {
        str(title(found, model)): found.pooled(model)
        for model in [RECOMMENDED, *found.best_first][:MOST_CURVES]
    }
    if found.task == "regression":
        drawn = overlaid_predictions(curves, found.names)
        pooled = Section("predictions", "Predicted against true", drawn, text=POOLED)
    else:
        drawn = roc_curves(curves, found.names)
        pooled = Section("roc", "ROC of the pooled predictions", drawn, text=POOLED)
    findings = [
        [f.level + (" (accepted)" if f.accepted else ""), f.name, finding_number(f), f.sentence]
        for f in board.audit
    ]
    metrics = list(dict.fromkeys(board.metrics["metric"]))
    measured = [
        [title(found, model), *(with_bounds(of[name]) for name in metrics)]
        for model, of in board.pooled.items()
    ]
    audited = f"{audit_summary(board.audit).capitalize()}."
    sections = [
        Section("audit", "Audit", text=audited, table=_table(AUDIT_HEAD, findings)),
        Section("verdict", "Verdict", text=f"{board.verdict.capitalized}."),
        Section(
            "leaderboard",
            "Leaderboard",
            forest(board),
            text=about_tests(board),
            table=leaderboard_cells(board),
        ),
        Section("metrics", "All metrics, pooled", table=[["model", *metrics], *measured]),
        Section(
            "folds",
            f"{metric} of each {kind}",
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
        head = f"Permutation test of {title(found, tested.model)}"
        sections.append(Section(name, head, permutation_bars(tested, metric)))
    if board.learning is not None:
        lines = learning_lines(found, board.learning)
        sections.append(Section("learning", "Learning curve", lines))
    sections.append(Section("notes", "Notes", text=" ".join(notes(board))))
    sections.append(Section("data", "Data", table=_table(["data"], [[of] for of in board.about])))
    return sections


def _table(head: list[str], rows: list[list[str]]) -> list[list[str]] | None:
    return [head, *rows] if rows else None


def fold_cells(board: FoldLeaderboard) -> list[list[str]]:
    """The sizes of each fold, and the figure of the model that was chosen in it."""
    found, rows = board.found, []
    for number, fold in enumerate(found.plan.folds):
        name = f"{fold.name} (repeat {fold.repeat})" if fold.repeat else fold.name
        sizes = [str(int((fold.split == subset).sum())) for subset in SUBSETS]
        chosen = title(found, found.chosen[number])
        rows.append([name, *sizes, chosen, figure_text(board.folds[RECOMMENDED][number])])
    return [[found.plan.kind, *SUBSETS, "chosen", f"its test {found.metric}"], *rows]


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
            name=str(kind),
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
    return _by_model(figure, names, f"{found.metric}, {board.basis}")


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
            hovertemplate=f"{found.plan.kind} %{{text}}: %{{x:.4g}}",
            name=str(kind),
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

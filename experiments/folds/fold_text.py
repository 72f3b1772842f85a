"""The results of a cross-validation in the terminal, and as tables."""

import shutil
import textwrap

import pandas as pd

from datasets.messages import Message, sentences
from datasets.splits import SUBSETS
from engine.metrics import metric_value
from engine.reporting import figure_text, metric_message, p_text, with_bounds
from engine.statistics import Interval
from experiments.analysis import about_methods, about_positive_class, audit_summary, audit_table
from experiments.folds.fold_leaderboard import FoldLeaderboard, title
from experiments.folds.out_of_fold import RECOMMENDED

# A cell where there is nothing to compare.
NOTHING = "-"
NARROWEST, WITHOUT_TERMINAL = 60, 100

ABOUT = (
    "In each fold the model with the best {} on the fold's own validation samples is chosen; its "
    "test samples choose nothing. The row recommended holds the predictions of these models. "
    "Recommended for new samples is the model with the best mean validation figure over the folds. "
    "The epoch of a network, and what late fusion is made of, may have been chosen on the same "
    "validation samples, which favours them. Differences and tests are of each model against the "
    "row recommended; t-test and intervals of means are corrected for overlapping training sets "
    "(Nadeau and Bengio 2003), all p-values for their number (Holm 1979)."
)
RESAMPLED = (
    "95% intervals of pooled figures: {} bootstrap resamples of the {} groups; they cover the "
    "variation over tested groups, not over training sets."
)
DEPENDENT = (
    "The folds share most of their training samples, so their figures are not independent: the "
    "standard deviation is their spread, not a standard error of the mean, for which no unbiased "
    'estimate exists (Bengio and Grandvalet 2004, "No Unbiased Estimator of the '
    'Variance of K-Fold Cross-Validation").'
)

PERMUTED = (
    "Permutation test of {}: p = {}, {} {} against a mean of {} on {} permutations of the targets, "
    "by group."
)
NOT_TESTED = (
    "The recommended model itself is trained on all samples, which leaves none to test it by: its "
    "estimate is the row recommended."
)


def heading(board: FoldLeaderboard) -> Message:
    """The folds and their samples, in a line."""
    plan = board.found.plan
    count = len(plan.folds) // plan.repeats
    sizes = len(plan.cohort.sample_ids), len(set(board.found.groups))
    tested = Message("{} samples of {} groups, each tested once", *sizes)
    if plan.repeats > 1:
        told = "{} samples of {} groups, each tested {} times"
        tested = Message(told, *sizes, plan.repeats)
    if plan.kind == "fold":
        return Message("{} folds; {}", count, tested)
    return Message("each {} left out in turn, {} of them; {}", kind_of(board), count, tested)


def kind_of(board: FoldLeaderboard) -> str:
    """What a fold is called; a column of batches is a name of the user's."""
    kind = board.found.plan.kind
    return Message(kind) if kind in ("fold", "group") else kind


def leaderboard_cells(board: FoldLeaderboard) -> list[list[str]]:
    """Rows of cells, the first the names of the columns."""
    found, metric = board.found, board.found.metric
    test = board.table["pooled_test"].iloc[-1]
    validated = Message("validation {}", metric_message(metric))
    head: list[str] = ["model", validated, "mean of folds", "sd", "pooled", "difference"]
    rows = [[*head, "t-test p, Holm", Message(f"{test} p, Holm")]]
    for _, row in board.table.iterrows():
        model = row["model"]
        mean = Interval(*row[["mean", "mean_low", "mean_high"]])
        cells: list[str] = [title(found, model), figure_text(row["validation"]), with_bounds(mean)]
        cells.append(figure_text(row["sd"]))
        cells.append(with_bounds(board.pooled[model][metric]))
        if model == RECOMMENDED:
            cells += [NOTHING] * 3
        else:
            bounds = row[["difference", "difference_low", "difference_high"]]
            cells.append(with_bounds(Interval(*bounds), "+"))
            cells += map(p_text, row[["t_test_p_holm", "pooled_p_holm"]])
        rows.append(cells)
    return rows


def about_tests(board: FoldLeaderboard) -> Message:
    """How models are chosen and compared, in sentences."""
    found, told = board.found, [Message(ABOUT, metric_message(board.found.metric))]
    if found.plan.base.report.resamples:
        count = found.plan.base.report.resamples
        told.append(Message(RESAMPLED, count, len(set(found.groups))))
    seeds = board.table.dropna(subset=["seeds_low"]).set_index("model")
    if len(seeds):
        ends = seeds[["seeds_low", "seeds_high"]].map(figure_text)
        each = [Message("{} {} to {}", model, *pair) for model, pair in ends.T.items()]
        about = "Networks predict the mean of their seeds; single seeds: {}."
        told.append(Message(about, each))
    return sentences(*told)


def notes(board: FoldLeaderboard) -> list[Message]:
    """On the positive class, undefined metrics, and intervals that are not by bootstrap."""
    found = board.found
    about = about_positive_class(found.task, found.names)
    lines = [Message("{}", about)] if about else []
    lines += about_methods(list(board.pooled.values()), found.task)
    count = len(found.test)
    own = board.metrics[board.metrics["model"] == RECOMMENDED].set_index("metric")["folds"]
    for metric, defined in own.items():
        if defined < count:
            told = "{} is undefined in {} of {} folds"
            others = "; its mean, standard deviation and median are of the others" * bool(defined)
            values = metric_message(str(metric)), count - defined, count
            lines.append(Message(f"{told}{others}.", *values))
    untold = {name for run in found.runs.values() for name in run.asked_for}
    untold -= set(board.metrics["metric"])
    cannot = "{} cannot be computed from predictions."
    lines += [Message(cannot, metric_message(name)) for name in sorted(untold)]
    return [*lines, *about_checks(board), Message(NOT_TESTED)]


def about_checks(board: FoldLeaderboard) -> list[Message]:
    """On permutations and learning curves, of baselines that of the best one."""
    found, learning, lines = board.found, board.learning, []
    metric = metric_message(found.metric)
    for tested in board.permutations:
        mean = figure_text(float(pd.Series(tested.permuted).mean()))
        figures = f"{tested.p_value:.4f}", metric, figure_text(tested.observed), mean
        model, count = title(found, tested.model), len(tested.permuted)
        lines.append(Message(PERMUTED, model, *figures, count))
    for name, own in () if learning is None else learning.groupby("model", sort=False):
        if name in found.baselines[1:]:
            continue
        steps = [
            Message("{} with {}", figure_text(value), samples)
            for samples, value in zip(own["samples"], own[found.metric], strict=True)
        ]
        told = "Learning curve of {}, by training samples: {}."
        lines.append(Message(told, title(found, str(name)), steps))
    return lines


def fold_text(board: FoldLeaderboard) -> str:
    """All of it for a terminal."""
    rows = leaderboard_cells(board)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    audited = f"audit {audit_summary(board.audit)}"
    if not board.found.plan.base.audit.enabled:
        audited = "the data were not audited"
    lines: list[str] = [heading(board), audited]
    lines += audit_table([finding for finding in board.audit if finding.level != "note"])
    lines.append("")
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    width = max(NARROWEST, shutil.get_terminal_size((WITHOUT_TERMINAL, 0)).columns)
    remarks = [about_tests(board), *notes(board), DEPENDENT]
    remarks = [textwrap.fill(line, width) for line in remarks]
    return "\n".join([*lines, "", *remarks, "", f"verdict: {board.verdict}"])


def folds_table(board: FoldLeaderboard) -> pd.DataFrame:
    """``folds.csv``: one row per fold and model, with its sizes and each metric."""
    found, rows = board.found, []
    measured = list(dict.fromkeys(board.metrics["metric"]))
    for number, fold in enumerate(found.plan.folds):
        sizes = {f"{subset}_samples": int((fold.split == subset).sum()) for subset in SUBSETS}
        tested = len(set(found.plan.cohort.groups[fold.split == "test"]))
        for model in found.best_first:
            seeds = found.plan.seeds if model in found.plan.candidates else ()
            runs = [found.runs[model, seed, number] for seed in seeds]
            rows.append(
                {
                    "repeat": fold.repeat,
                    "fold": fold.name,
                    "model": model,
                    "chosen": model == found.chosen[number],
                    **sizes,
                    "test_groups": tested,
                    "run": " ".join(run.name for run in runs),
                    "epochs": " ".join(str(run.epochs) for run in runs),
                    f"val/{found.metric}": metric_value(found.metric, found.val[number][model]),
                    **{name: metric_value(name, found.test[number][model]) for name in measured},
                    "fingerprint": fold.version.fingerprint,
                }
            )
    return pd.DataFrame(rows)

"""The results of a cross-validation in the terminal, and as tables."""

import shutil
import textwrap

import pandas as pd

from datasets.cohort import about_positive
from datasets.splits import SUBSETS
from engine.metrics import metric_value
from engine.reporting import figure_text, p_text, with_bounds
from engine.statistics import Interval
from experiments.analysis import about_methods, audit_summary, audit_table
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


def heading(board: FoldLeaderboard) -> str:
    """The folds and their samples, in a line."""
    plan = board.found.plan
    count = len(plan.folds) // plan.repeats
    samples, groups = len(plan.cohort.sample_ids), len(set(board.found.groups))
    tested = f"{samples} samples of {groups} groups, each tested "
    tested += "once" if plan.repeats == 1 else f"{plan.repeats} times"
    if plan.kind == "fold":
        return f"{count} folds; {tested}"
    return f"each {plan.kind} left out in turn, {count} of them; {tested}"


def leaderboard_cells(board: FoldLeaderboard) -> list[list[str]]:
    """Rows of cells, the first the names of the columns."""
    found, metric = board.found, board.found.metric
    test = board.table["pooled_test"].iloc[-1]
    head = ["model", f"validation {metric}", "mean of folds", "sd", "pooled", "difference"]
    rows = [[*head, "t-test p, Holm", f"{test} p, Holm"]]
    for _, row in board.table.iterrows():
        model = row["model"]
        mean = Interval(*row[["mean", "mean_low", "mean_high"]])
        cells = [str(title(found, model)), figure_text(row["validation"]), with_bounds(mean)]
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


def about_tests(board: FoldLeaderboard) -> str:
    """How models are chosen and compared, in sentences."""
    found, told = board.found, [ABOUT.format(board.found.metric)]
    if found.plan.base.report.resamples:
        count = found.plan.base.report.resamples
        told.append(RESAMPLED.format(count, len(set(found.groups))))
    seeds = board.table.dropna(subset=["seeds_low"]).set_index("model")
    if len(seeds):
        ends = seeds[["seeds_low", "seeds_high"]].map(figure_text)
        each = (f"{model} {low} to {high}" for model, (low, high) in ends.T.items())
        told.append(f"Networks predict the mean of their seeds; single seeds: {', '.join(each)}.")
    return " ".join(told)


def notes(board: FoldLeaderboard) -> list[str]:
    """On the positive class, undefined metrics, and intervals that are not by bootstrap."""
    found = board.found
    about = about_positive(found.task, found.names)
    lines = [f"{about[:1].upper()}{about[1:]}."] if about else []
    lines += about_methods(list(board.pooled.values()), found.task)
    count = len(found.test)
    own = board.metrics[board.metrics["model"] == RECOMMENDED].set_index("metric")["folds"]
    for metric, defined in own.items():
        if defined < count:
            line = f"{metric} is undefined in {count - defined} of {count} folds"
            others = "; its mean, standard deviation and median are of the others."
            lines.append(line + (others if defined else "."))
    untold = {name for run in found.runs.values() for name in run.asked_for}
    untold -= set(board.metrics["metric"])
    lines += [f"{name} cannot be computed from predictions." for name in sorted(untold)]
    return lines + about_checks(board)


def about_checks(board: FoldLeaderboard) -> list[str]:
    """On permutations and learning curves, of baselines that of the best one."""
    found, learning, lines = board.found, board.learning, []
    for tested in board.permutations:
        lines.append(
            f"Permutation test of {title(found, tested.model)}: p = {tested.p_value:.4f}, "
            f"{found.metric} {figure_text(tested.observed)} against a mean of "
            f"{figure_text(float(pd.Series(tested.permuted).mean()))} on "
            f"{len(tested.permuted)} permutations of the targets, by group."
        )
    for model, own in () if learning is None else learning.groupby("model", sort=False):
        if model in found.baselines[1:]:
            continue
        steps = ", ".join(
            f"{figure_text(value)} with {samples}"
            for samples, value in zip(own["samples"], own[found.metric], strict=True)
        )
        lines.append(f"Learning curve of {title(found, str(model))}, by training samples: {steps}.")
    return lines


def fold_text(board: FoldLeaderboard) -> str:
    """All of it for a terminal."""
    rows = leaderboard_cells(board)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [heading(board), f"audit {audit_summary(board.audit)}"]
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

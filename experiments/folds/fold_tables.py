"""A cross-validation on paper: a table for a terminal, a page of text, and CSV files."""

from __future__ import annotations

import io
import shutil
import textwrap
from pathlib import Path

import pandas as pd

from datasets.cohort import about_positive
from datasets.errors import UsageError
from datasets.files import write_whole
from engine.reporting import figure_text, with_bounds
from experiments.analysis import about_methods
from experiments.folds.fold_results import FoldResults
from experiments.report.text import escape_markdown
from experiments.run_files import PREDICTIONS_NAME

FOLDS_NAME, SUMMARY_NAME = "folds.csv", "summary.md"
# A terminal shows so many folds; the summary has them all.
MOST_SHOWN = 12
SIDES = ("train", "val", "test")
NOT_POOLED = "-"
NARROWEST, WITHOUT_TERMINAL = 60, 100

DEPENDENT = (
    "The folds share most of their training samples, so their figures are not independent: the "
    "standard deviation says how much they differ, it is no standard error of the mean, of which "
    'there is no unbiased estimate (Bengio and Grandvalet 2004, "No Unbiased Estimator of the '
    'Variance of K-Fold Cross-Validation").'
)
POOLED = (
    "Pooled figures are of all {samples} test samples together, each told by the model that never "
    "saw its group. A ranking so holds scores of different models against each other, which "
    'costs where they are not on one scale (Forman and Scholz 2010, "Apples-to-Apples in '
    'Cross-Validation Studies").'
)


def write_fold_results(results: FoldResults, folder: Path) -> Path:
    """Write the tables, the pooled predictions and the summary; earlier ones are replaced.

    Args:
        results: Of all folds.
        folder: Made where it is missing.

    Returns:
        The summary.

    Raises:
        UsageError: The folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in (
            (FOLDS_NAME, folds_table(results)),
            (PREDICTIONS_NAME, pooled_predictions(results)),
        ):
            write_whole(table.to_csv(index=False).encode(), folder, name, durable=False)
        text = summary(results)
        write_whole(text.encode(), folder, SUMMARY_NAME, durable=False)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    return folder / SUMMARY_NAME


def folds_table(results: FoldResults) -> pd.DataFrame:
    """One row a fold: its run, its sides, the monitored metric, and each test metric."""
    rows = []
    for fold, run, figures in zip(results.folds, results.runs, results.figures, strict=True):
        tested = run.side("test")
        rows.append(
            {
                "fold": fold,
                "run": run.name,
                **{f"{side}_samples": len(run.side(side)) for side in SIDES},
                "test_groups": len({run.groups[sample] for sample in tested}),
                "epochs": run.epochs,
                str(run.monitor): run.validation,
                **figures,
                "fingerprint": run.environment.get("fingerprint"),
            }
        )
    return pd.DataFrame(rows)


def pooled_predictions(results: FoldResults) -> pd.DataFrame:
    """Every test sample as its run wrote it, with its fold behind its name."""
    parts = []
    for fold, run in zip(results.folds, results.runs, strict=True):
        # As text: digits stay as they were written.
        part = pd.read_csv(run.folder / PREDICTIONS_NAME, dtype=str, keep_default_na=False)
        part.insert(1, "fold", fold)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def fold_text(results: FoldResults) -> str:
    """All of it for a terminal."""
    told = [heading(results), ""]
    shown = list(range(len(results.folds)))
    if len(shown) > MOST_SHOWN:
        shown = []
    head = ["", *(_short_fold(results, number) for number in shown)]
    rows = [[*head, "mean", "sd", "median", "pooled"]]
    for metric in results.metrics:
        figures = [figure_text(results.figures[number][metric]) for number in shown]
        rows.append([metric, *figures, *_spread(results, metric), _pooled(results, metric)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = row
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        told.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    width = max(NARROWEST, shutil.get_terminal_size((WITHOUT_TERMINAL, 0)).columns)
    remarks = [textwrap.fill(line, width) for line in (*notes(results), DEPENDENT)]
    return "\n".join([*told, "", *remarks])


def summary(results: FoldResults) -> str:
    """All of it in Markdown."""
    first = results.runs[0]
    about = "\n".join(f"- {escape_markdown(line)}" for line in results.about)
    overall = _markdown(
        ["metric", "mean", "sd", "median", "pooled"],
        [
            [escape_markdown(metric), *_spread(results, metric), _pooled(results, metric)]
            for metric in results.metrics
        ],
    )
    head = [results.kind, "run", "train", "validation", "test", "groups of test", "epochs"]
    table = folds_table(results)
    by_fold = _markdown(
        [escape_markdown(name) for name in [*head, str(first.monitor), *results.metrics]],
        [
            [
                escape_markdown(str(row["fold"])),
                escape_markdown(str(row["run"])),
                *(str(row[f"{side}_samples"]) for side in SIDES),
                str(row["test_groups"]),
                str(row["epochs"]),
                figure_text(float(row[str(first.monitor)])),
                *(figure_text(float(row[metric])) for metric in results.metrics),
            ]
            for _, row in table.iterrows()
        ],
    )
    intervals = ""
    if results.resamples:
        intervals = (
            f" In brackets: 95% intervals by {results.resamples} bootstrap resamples of the "
            f"{results.groups} groups; they tell how far the figure would move had other groups "
            "been tested, not had other ones been trained on."
        )
    remarks = "".join(f"\n{line}\n" for line in notes(results))
    return f"""# {escape_markdown(results.name)}: {heading(results)}

Model `{first.model}`; each fold is a run of its own, with its own page and files.

## Data

{about}

## Results

{overall}

{DEPENDENT}

{POOLED.format(samples=results.samples)}{intervals}
{remarks}
## Folds

{by_fold}

`{FOLDS_NAME}` holds this table in full precision, `{PREDICTIONS_NAME}` every sample's prediction
and the fold that it was tested in.
"""


def heading(results: FoldResults) -> str:
    """What was left out, and of how many.

    Args:
        results: Of all folds.
    """
    count = len(results.folds)
    tested = f"{results.samples} samples of {results.groups} groups, each tested once"
    if results.kind == "fold":
        return f"{count} folds; {tested}"
    return f"each {results.kind} left out in turn, {count} of them; {tested}"


def notes(results: FoldResults) -> list[str]:
    """On the positive class, undefined metrics, and intervals that are not by bootstrap."""
    count, first = len(results.folds), results.runs[0]
    about = about_positive(first.outputs.task, first.class_names)
    told = [f"{about[:1].upper()}{about[1:]}."] if about else []
    told += about_methods([results.pooled])
    for metric, spread in results.spread.items():
        if spread.defined < count:
            line = f"{metric} is undefined in {count - spread.defined} of {count} folds"
            others = "; its mean, standard deviation and median are of the others."
            told.append(line + (others if spread.defined else "."))
    return told


def _short_fold(results: FoldResults, number: int) -> str:
    return f"{results.kind} {results.folds[number]}"


def _spread(results: FoldResults, metric: str) -> list[str]:
    spread = results.spread[metric]
    return [figure_text(value) for value in (spread.mean, spread.deviation, spread.median)]


def _pooled(results: FoldResults, metric: str) -> str:
    figure = results.pooled.get(metric)
    return NOT_POOLED if figure is None else with_bounds(figure)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = io.StringIO()
    lines.write(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}\n")
    lines.writelines(f"| {' | '.join(row)} |\n" for row in rows)
    return lines.getvalue().rstrip()

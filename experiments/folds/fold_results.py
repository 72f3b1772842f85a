"""The results of all folds together: figures, tables and a summary."""

from __future__ import annotations

import io
import math
import shutil
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from datasets.cohort import about_positive
from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.splits import Folds
from engine.metrics import metric_value
from engine.reporting import figure_text, with_bounds
from engine.statistics import Interval, bootstrap_intervals
from experiments.analysis import about_methods
from experiments.report.text import escape_markdown
from experiments.run_files import PREDICTIONS_NAME, FinishedRun, SavedOutputs


@dataclass(frozen=True)
class Spread:
    """The spread of a metric over the folds that have it.

    Attributes:
        mean: NaN where no fold has a figure.
        deviation: The standard deviation, NaN of fewer than two.
        median: NaN where no fold has a figure.
        defined: How many folds have a figure.
    """

    mean: float
    deviation: float
    median: float
    defined: int


@dataclass(frozen=True)
class FoldResults:
    """All folds of one configuration.

    Attributes:
        name: Of the configuration.
        kind: What a fold is called: ``fold``, ``group``, or the column of batches.
        folds: Their names.
        runs: One per fold.
        metrics: All that were asked for.
        figures: For each fold: metric -> figure on its test set, NaN where it is undefined.
        spread: Metric -> how its figures are spread over the folds.
        pooled: Metric -> figure of all test samples together; those that cannot be told from
            predictions are not there.
        groups: How many groups there are.
        resamples: Of the pooled figures' intervals, 0 for none.
        about: Lines on the data.
    """

    name: str
    kind: str
    folds: list[str]
    runs: list[FinishedRun]
    metrics: list[str]
    figures: list[dict[str, float]]
    spread: dict[str, Spread]
    pooled: dict[str, Interval]
    groups: int
    resamples: int
    about: Sequence[str]

    @property
    def samples(self) -> int:
        """Number of tested samples."""
        return sum(len(run.outputs.sample_id) for run in self.runs)


def fold_results(
    name: str,
    folds: Folds,
    runs: Sequence[FinishedRun],
    about: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> FoldResults:
    """Put the folds' runs together.

    Raises:
        UsageError: A sample was tested in two folds, or the runs are not of the same classes.
    """
    pooled = pool_outputs(runs)
    metrics = list(dict.fromkeys(name for run in runs for name in run.asked_for))
    told = [name for name in metrics if name in runs[0].metric_names]
    group_of = {sample: group for run in runs for sample, group in run.groups.items()}
    groups = [group_of[sample] for sample in pooled.sample_id]
    if resamples:
        together = bootstrap_intervals(pooled, groups, told, resamples, seed=seed)
    else:
        together = {metric: Interval(metric_value(metric, pooled)) for metric in told}
    figures = [{metric: run.test_figure(metric).value for metric in metrics} for run in runs]
    return FoldResults(
        name=name,
        kind=folds.kind,
        folds=list(folds.names),
        runs=list(runs),
        metrics=metrics,
        figures=figures,
        spread={metric: spread_of([own[metric] for own in figures]) for metric in metrics},
        pooled=together,
        groups=len(set(groups)),
        resamples=resamples,
        about=about,
    )


def pool_outputs(runs: Sequence[FinishedRun]) -> SavedOutputs:
    """The test samples of all runs, one run after the other.

    Raises:
        UsageError: They do share one, or they are not of the same classes.
    """
    first = runs[0]
    owner: dict[str, str] = {}
    for run in runs:
        if run.class_names != first.class_names or run.outputs.task != first.outputs.task:
            raise UsageError(
                f"{run.name} tells {', '.join(run.class_names)} apart, {first.name} "
                f"{', '.join(first.class_names)}: folds of one cohort were expected"
            )
        for sample in run.outputs.sample_id:
            if sample in owner:
                raise UsageError(
                    f"sample '{sample}' was tested in {owner[sample]} and in {run.name}; each "
                    "sample is in one fold"
                )
            owner[sample] = run.name
    outputs = [run.outputs for run in runs]
    return SavedOutputs(
        torch.cat([o.logits for o in outputs]),
        torch.cat([o.target for o in outputs]),
        list(owner),
        {},
        first.outputs.task,
        custom=first.outputs.custom,
        said=torch.cat([o.said for o in outputs]),
        targets=first.outputs.targets,
    )


def spread_of(figures: Sequence[float]) -> Spread:
    """Mean, standard deviation and median of what is defined.

    Example:
        >>> spread_of([0.5, 0.7, float("nan")])
        Spread(mean=0.6, deviation=0.1414..., median=0.6, defined=2)
    """
    known = [figure for figure in figures if not math.isnan(figure)]
    return Spread(
        mean=statistics.fmean(known) if known else math.nan,
        deviation=statistics.stdev(known) if len(known) > 1 else math.nan,
        median=statistics.median(known) if known else math.nan,
        defined=len(known),
    )


FOLDS_NAME, SUMMARY_NAME = "folds.csv", "summary.md"
# A terminal shows so many folds; the summary has them all.
MOST_SHOWN = 12
SIDES = ("train", "val", "test")
NOT_POOLED = "-"
NARROWEST, WITHOUT_TERMINAL = 60, 100

DEPENDENT = (
    "The folds share most of their training samples, so their figures are not independent: the "
    "standard deviation is their spread, not a standard error of the mean, for which no unbiased "
    'estimate exists (Bengio and Grandvalet 2004, "No Unbiased Estimator of the '
    'Variance of K-Fold Cross-Validation").'
)
POOLED = (
    "Pooled figures are of all {samples} test samples together, each predicted by the model that "
    "was not trained on its group. A pooled ranking compares scores of different models, which "
    'lowers it where their scales differ (Forman and Scholz 2010, "Apples-to-Apples in '
    'Cross-Validation Studies").'
)


def write_fold_results(results: FoldResults, folder: Path) -> Path:
    """Write the tables, the pooled predictions and the summary; earlier ones are replaced.

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
    """One row per fold: its run, its sizes, the monitored metric, and each test metric."""
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
            f" In brackets 95% intervals: {results.resamples} bootstrap resamples of the "
            f"{results.groups} groups; they cover the variation over tested groups, not over "
            "training sets."
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
    """The folds and their samples, in a line."""
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
    told += about_methods([results.pooled], first.outputs.task)
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

"""The results of all folds together: figures, tables and a summary."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from datasets.cohort import about_positive
from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.splits import SUBSETS, Folds
from engine.metrics import metric_value
from engine.reporting import figure_text, with_bounds
from engine.statistics import Interval, bootstrap_intervals
from experiments.analysis import about_methods
from experiments.report.text import escape_markdown
from experiments.run_files import PREDICTIONS_NAME, FinishedRun, SavedOutputs


@dataclass(frozen=True)
class FoldResults:
    """All folds of one configuration.

    Attributes:
        kind: What a fold is called: ``fold``, ``group``, or the column of batches.
        figures: One row per fold, by its name, one column per metric that was asked for: its value
            on the fold's test set, NaN where it is undefined.
        pooled: Metric -> value of all test samples together; those that cannot be computed from
            predictions are missing.
        groups: How many groups there are.
        resamples: Of the pooled figures' intervals, 0 for none.
        about: Lines on the data.
    """

    name: str
    kind: str
    runs: list[FinishedRun]
    figures: pd.DataFrame
    pooled: dict[str, Interval]
    groups: int
    resamples: int
    about: Sequence[str]

    @property
    def metrics(self) -> list[str]:
        """All that were asked for."""
        return [str(name) for name in self.figures]

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
    """Put the folds' runs together."""
    pooled = pool_outputs(runs)
    metrics = list(dict.fromkeys(name for run in runs for name in run.asked_for))
    computed = [name for name in metrics if name in runs[0].metric_names]
    group_of = {sample: group for run in runs for sample, group in run.groups.items()}
    groups = [group_of[sample] for sample in pooled.sample_id]
    if resamples:
        together = bootstrap_intervals(pooled, groups, computed, resamples, seed=seed)
    else:
        together = {metric: Interval(metric_value(metric, pooled)) for metric in computed}
    figures = [[run.test_figure(metric).value for metric in metrics] for run in runs]
    return FoldResults(
        name=name,
        kind=folds.kind,
        runs=list(runs),
        figures=pd.DataFrame(figures, index=list(folds.names), columns=metrics),
        pooled=together,
        groups=len(set(groups)),
        resamples=resamples,
        about=about,
    )


def pool_outputs(runs: Sequence[FinishedRun]) -> SavedOutputs:
    """The test samples of all runs, one run after the other."""
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
        predicted=torch.cat([o.predicted for o in outputs]),
        targets=first.outputs.targets,
    )


FOLDS_NAME, SUMMARY_NAME = "folds.csv", "summary.md"
# A terminal shows so many folds; the summary has them all.
MOST_SHOWN = 12
NOT_POOLED, SPREAD = "-", ("mean", "sd", "median")
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

    Returns the summary's path.
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
    return pd.DataFrame(
        {
            "fold": fold,
            "run": run.name,
            **{f"{subset}_samples": len(run.samples_of(subset)) for subset in SUBSETS},
            "test_groups": len({run.groups[sample] for sample in run.samples_of("test")}),
            "epochs": run.epochs,
            str(run.monitor): run.validation,
            **figures,
            "fingerprint": run.environment.get("fingerprint"),
        }
        for run, (fold, figures) in zip(results.runs, results.figures.iterrows(), strict=True)
    )


def pooled_predictions(results: FoldResults) -> pd.DataFrame:
    """Every test sample as its run wrote it, with its fold behind its name."""
    parts = []
    for fold, run in zip(results.figures.index, results.runs, strict=True):
        # As text: digits stay as they were written.
        part = pd.read_csv(run.folder / PREDICTIONS_NAME, dtype=str, keep_default_na=False)
        part.insert(1, "fold", fold)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def fold_text(results: FoldResults) -> str:
    """All of it for a terminal."""
    lines = [heading(results), ""]
    shown = results.figures if len(results.figures) <= MOST_SHOWN else results.figures.iloc[:0]
    names = [f"{results.kind} {fold}" for fold in shown.index]
    rows = [["", *names, *SPREAD, "pooled"]]
    for metric in results.metrics:
        rows.append(
            [metric, *map(figure_text, shown[metric]), *_spread_and_pooled(results, metric)]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    width = max(NARROWEST, shutil.get_terminal_size((WITHOUT_TERMINAL, 0)).columns)
    remarks = [textwrap.fill(line, width) for line in (*notes(results), DEPENDENT)]
    return "\n".join([*lines, "", *remarks])


def summary(results: FoldResults) -> str:
    """All of it in Markdown."""
    first = results.runs[0]
    about = "\n".join(f"- {escape_markdown(line)}" for line in results.about)
    overall = _markdown(
        ["metric", *SPREAD, "pooled"],
        [[escape_markdown(m), *_spread_and_pooled(results, m)] for m in results.metrics],
    )
    head = [results.kind, "run", "train", "validation", "test", "groups of test", "epochs"]
    measured = [str(first.monitor), *results.metrics]
    by_fold = _markdown(
        [escape_markdown(name) for name in [*head, *measured]],
        [
            [
                *map(escape_markdown, (row["fold"], row["run"])),
                *(str(row[f"{subset}_samples"]) for subset in SUBSETS),
                str(row["test_groups"]),
                str(row["epochs"]),
                *(figure_text(float(row[name])) for name in measured),
            ]
            for _, row in folds_table(results).iterrows()
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
    count = len(results.runs)
    tested = f"{results.samples} samples of {results.groups} groups, each tested once"
    if results.kind == "fold":
        return f"{count} folds; {tested}"
    return f"each {results.kind} left out in turn, {count} of them; {tested}"


def notes(results: FoldResults) -> list[str]:
    """On the positive class, undefined metrics, and intervals that are not by bootstrap."""
    count, first = len(results.runs), results.runs[0]
    about = about_positive(first.outputs.task, first.class_names)
    lines = [f"{about[:1].upper()}{about[1:]}."] if about else []
    lines += about_methods([results.pooled], first.outputs.task)
    for metric, defined in results.figures.count().items():
        if defined < count:
            line = f"{metric} is undefined in {count - defined} of {count} folds"
            others = "; its mean, standard deviation and median are of the others."
            lines.append(line + (others if defined else "."))
    return lines


def _spread_and_pooled(results: FoldResults, metric: str) -> list[str]:
    spread = results.figures[metric].agg(["mean", "std", "median"])
    pooled = results.pooled.get(metric)
    return [*map(figure_text, spread), NOT_POOLED if pooled is None else with_bounds(pooled)]


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|---|{'---:|' * (len(head) - 1)}", *lines[1:]])

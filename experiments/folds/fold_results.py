"""What the runs of all folds say together: figures of each fold, and of all test samples pooled."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from datasets.errors import UsageError
from datasets.splits import Folds
from engine.metrics import metric_value
from engine.statistics import Interval, bootstrap_intervals
from experiments.run_files import FinishedRun, SavedOutputs


@dataclass(frozen=True)
class Spread:
    """How a metric's figures are spread over the folds that have one.

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
        runs: One a fold.
        metrics: All that were asked for.
        figures: For each fold: metric -> figure on its test side, NaN where it is undefined.
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
        """How many were tested, each once."""
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

    Args:
        name: Of the configuration.
        folds: Of the cohort.
        runs: One a fold, in their order.
        about: Lines on the data.
        resamples: Of the pooled figures' intervals, 0 for none.
        seed: Of their random stream.

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

    Args:
        runs: Of one task, on test sides that share no sample.

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

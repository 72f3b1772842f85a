"""All models of a cross-validation side by side: figures, tests, verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from datasets.messages import Message
from engine.metrics import METRICS, EpochOutputs, metric_value
from engine.reporting import metric_message, with_bounds
from engine.statistics import (
    Interval,
    bootstrap_differences,
    bootstrap_intervals,
    bootstrap_p_values,
    corrected_interval,
    corrected_t_test,
    delong_test,
    holm,
)
from experiments.baselines import (
    Entry,
    Leaderboard,
    delong_fits,
    paired_difference,
    title_of,
    verdict,
)
from experiments.folds.out_of_fold import FUSED_BASELINES, OF_MODEL, RECOMMENDED, TARGET, OutOfFold
from experiments.folds.side_by_side import SideBySide

if TYPE_CHECKING:
    from datasets.audit import Finding

DELONG, BOOTSTRAP = "DeLong", "group bootstrap"
# Of a regression: so many samples with the largest errors of the best model are shown.
MOST_WRONG = 10


@dataclass(frozen=True)
class Permutations:
    """The metric of a model on all test samples together, and fitted to permuted targets."""

    model: str
    observed: float
    permuted: Sequence[float]
    smaller_is_better: bool = False

    @property
    def p_value(self) -> float:
        """(1 + k) / (1 + N): k of N permutations do as well (Phipson and Smyth 2010).

        Example:
            >>> Permutations("spectra_svm", 0.9, [0.4, 0.5, 0.95]).p_value
            0.5
        """
        permuted = np.array(self.permuted)
        as_good = permuted <= self.observed if self.smaller_is_better else permuted >= self.observed
        return (1 + int(as_good.sum())) / (1 + len(permuted))


@dataclass(frozen=True)
class FoldLeaderboard:
    """The results of a cross-validation.

    ``table`` is ``leaderboard.csv``, one row per model, ``recommended`` first, then by validation;
    ``metrics`` is ``metrics.csv``; ``learning`` is ``learning_curve.csv``, whose metric is of all
    samples together. ``folds`` is model -> the chosen metric in each fold, NaN where undefined;
    ``pooled`` is model -> metric -> figure of all test samples together. ``about`` is on the data.
    """

    found: OutOfFold
    table: pd.DataFrame
    metrics: pd.DataFrame
    folds: Mapping[str, Sequence[float]]
    pooled: Mapping[str, Mapping[str, Interval]]
    audit: Sequence[Finding] = ()
    about: Sequence[str] = ()
    permutations: Sequence[Permutations] = ()
    learning: pd.DataFrame | None = None

    @cached_property
    def verdict(self) -> Message:
        """What is recommended, and whether the best network beats the best baseline."""
        found, metric, base = self.found, self.found.metric, self.found.plan.base
        told = Message(
            "recommended: {}; {} {}, {}, if chosen anew in each fold without its test samples",
            title(found, found.best_first[0]),
            metric_message(metric),
            with_bounds(self.figure(RECOMMENDED)),
            self.basis,
        )
        if not found.networks or not found.baselines:
            return told
        network, baseline = found.networks[0], found.baselines[0]
        if self.by_folds:
            apart = np.subtract(self.folds[network], self.folds[baseline]).tolist()
            difference = corrected_interval(apart, found.test_share)
        else:
            pair, resamples = (found.pooled(baseline), found.pooled(network)), base.report.resamples
            difference = paired_difference(*pair, found.groups, metric, resamples, base.seed)
        first, second = (
            Entry(title(found, name), _validation(found, name), self.figure(name), {})
            for name in (network, baseline)
        )
        compared = Leaderboard(metric_message(metric), first, [second], difference)
        return Message("{}; {}", told, verdict(compared))

    @property
    def by_folds(self) -> bool:
        """Whether models are told apart by means of folds: the groups are too few to resample."""
        return self.pooled[RECOMMENDED][self.found.metric].too_few

    @property
    def basis(self) -> Message:
        """Of the figures of the verdict."""
        if self.by_folds:
            return Message("mean of {} folds, as the groups are few", len(self.found.test))
        return Message("pooled")

    def figure(self, model: str) -> Interval:
        """The chosen metric of a model, with its interval."""
        if self.by_folds:
            return mean_figure(self.found, self.found.metric, self.folds[model])
        return self.pooled[model][self.found.metric]


def title(found: OutOfFold, model: str) -> Message:
    """A model's name in words."""
    if model == RECOMMENDED:
        return Message(RECOMMENDED)
    if model == FUSED_BASELINES:
        return Message("late fusion of baselines")
    return title_of(model) if model in found.baselines else Message("{}", model)


def make_leaderboard(
    found: OutOfFold, metrics: Sequence[str], processes: SideBySide | None = None
) -> FoldLeaderboard:
    """Compare all models by the chosen metric; measure the others that predictions allow."""
    base, metric, groups = found.plan.base, found.metric, found.groups
    models = [RECOMMENDED, *found.best_first]
    measured = list(dict.fromkeys([metric, *metrics]))
    outputs = {model: found.pooled(model) for model in models}
    asked = [(of, groups, measured, base.report.resamples, base.seed) for of in outputs.values()]
    drawn = dict((processes or SideBySide(1)).each(_figures, asked))
    pooled = {model: drawn[number] for number, model in enumerate(models)}
    folds = {
        (model, name): [metric_value(name, of[model]) for of in found.test]
        for model in models
        for name in measured
    }
    by_metric = pd.DataFrame(
        {
            "model": model,
            "metric": name,
            "mean": (mean := mean_figure(found, name, values)).value,
            "mean_low": mean.low,
            "mean_high": mean.high,
            "sd": pd.Series(values).std(),
            "median": pd.Series(values).median(),
            "pooled": (figure := pooled[model][name]).value,
            "low": figure.low,
            "high": figure.high,
            "folds": int(pd.Series(values).count()),
        }
        for (model, name), values in folds.items()
    )
    leading = by_metric[by_metric["metric"] == metric].reset_index(drop=True)
    kinds = ("baseline" if m in found.baselines else "network" for m in found.best_first)
    leading.insert(1, "kind", [RECOMMENDED, *kinds])
    leading["n"], leading["groups"] = len(groups), len(set(groups))
    leading["chosen"] = [found.chosen.count(m) if m != RECOMMENDED else pd.NA for m in models]
    leading["validation"] = [_validation(found, model) for model in models]
    of_folds = {model: folds[model, metric] for model in models}
    leading = leading.join(_seeds(found, models)).join(_differences(found, outputs, of_folds))
    return FoldLeaderboard(found, leading, by_metric, of_folds, pooled)


def _figures(asked: tuple[EpochOutputs, list[str], list[str], int, int]) -> dict[str, Interval]:
    """A model's metrics on all test samples, with intervals unless there are no resamples."""
    outputs, groups, measured, resamples, seed = asked
    if not resamples:
        return {name: Interval(metric_value(name, outputs)) for name in measured}
    return bootstrap_intervals(outputs, groups, measured, resamples, seed=seed)


def mean_figure(found: OutOfFold, metric: str, values: Sequence[float]) -> Interval:
    """The mean over folds with its interval, which ends where the metric does."""
    figure = corrected_interval(values, found.test_share)
    if found.task == "regression" or metric == "log_loss" or metric not in METRICS:
        return figure
    least = -1.0 if metric == "mcc" else 0.0
    low, high = np.clip([figure.low, figure.high], least, 1.0)  # NaN stays
    return replace(figure, low=float(low), high=float(high))


def _validation(found: OutOfFold, model: str) -> float:
    """The mean over folds of the metric on the validation set."""
    names = found.chosen if model == RECOMMENDED else [model] * len(found.val)
    values = [
        metric_value(found.metric, of[name]) for of, name in zip(found.val, names, strict=True)
    ]
    return float(np.mean(values))


def _seeds(found: OutOfFold, models: Sequence[str]) -> pd.DataFrame:
    """The worst and the best pooled figure of single seeds."""
    ends = []
    for model in models:
        names = found.single.get(model, [])
        values = [metric_value(found.metric, found.pooled(name)) for name in names]
        ends.append((min(values), max(values)) if values else (math.nan, math.nan))
    return pd.DataFrame(ends, columns=["seeds_low", "seeds_high"])


def _differences(
    found: OutOfFold, outputs: Mapping[str, EpochOutputs], folds: Mapping[str, Sequence[float]]
) -> pd.DataFrame:
    """Each model minus ``recommended``, its intervals and p-values, raw and by Holm."""
    plan, metric, groups = found.plan, found.metric, found.groups
    resamples, seed = plan.base.report.resamples, plan.base.seed
    reference, *others = outputs
    apart = [
        Interval(metric_value(metric, outputs[m]) - metric_value(metric, outputs[reference]))
        for m in others
    ]
    if resamples:
        pairs = list(outputs.values())
        found_of = bootstrap_differences(pairs, groups, [metric], resamples, seed=seed)
        apart = [of[metric] for of in found_of]
    ranked = delong_fits(metric, outputs[reference], groups)
    pooled = [math.nan for _ in others]
    if ranked:
        target = outputs[reference].target
        scores = [outputs[model].scores[:, 1] for model in outputs]
        pooled = [delong_test(of, scores[0], target).p_value for of in scores[1:]]
    elif resamples:
        drawn = bootstrap_p_values(list(outputs.values()), groups, metric, resamples, seed)
        # Where the groups are too few for an interval, they are for a test.
        pooled = [
            math.nan if math.isnan(interval.low) else p
            for p, interval in zip(drawn, apart, strict=True)
        ]
    of_folds = [np.subtract(folds[model], folds[reference]).tolist() for model in others]
    by_fold = [corrected_t_test(values, found.test_share)[1] for values in of_folds]
    nothing = [math.nan]
    return pd.DataFrame(
        {
            "difference": nothing + [of.value for of in apart],
            "difference_low": nothing + [of.low for of in apart],
            "difference_high": nothing + [of.high for of in apart],
            "t_test_p": nothing + by_fold,
            "t_test_p_holm": nothing + holm(by_fold),
            "pooled_test": ["", *[DELONG if ranked else BOOTSTRAP] * len(others)],
            "pooled_p": nothing + pooled,
            "pooled_p_holm": nothing + holm(pooled),
        }
    )


def always_wrong(found: OutOfFold) -> list[list[str]]:
    """Samples that no model predicts right: name, group, fold, true and predicted.

    Of a regression those with the largest error of the model that comes nearest.
    """
    target = found.pooled(RECOMMENDED).target.numpy()
    predicted = np.stack([found.pooled(model).predictions.numpy() for model in found.best_first])
    if found.task == "regression":
        errors = np.abs(predicted - target) / np.maximum(target.std(axis=0), 1e-12)
        rows = np.argsort(-errors.mean(axis=-1).min(axis=0), kind="stable")[:MOST_WRONG]
    else:
        wrong = (predicted != target).reshape(*predicted.shape[:2], -1).any(axis=-1)
        rows = np.flatnonzero(wrong.all(axis=0))
    table = found.table().iloc[rows]
    rows_of = [table[[name]] for name in ("sample_id", "group", "fold")]
    for start in (TARGET, f"{RECOMMENDED}{OF_MODEL}prediction"):
        names = [name for name in table if f"{name}_".startswith(f"{start}_")]
        rows_of.append(table[names])
    return [[", ".join(map(_cell, of.iloc[row])) for of in rows_of] for row in range(len(table))]


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""A trained model's figures on a new cohort that has labels, and the same on its own test set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from datasets.errors import UsageError
from datasets.specs import require_range
from engine.metrics import (
    TASKS,
    CustomMetric,
    EpochOutputs,
    by_target,
    metric_value,
)
from engine.statistics import (
    FEWEST_GROUPS,
    TOO_FEW,
    Interval,
    bootstrap_intervals,
    calibration_in_the_large,
    calibration_slope,
    groups_of_rarest,
    threshold_table,
)
from experiments.analysis import ranked_outputs
from experiments.run_files import SavedOutputs

if TYPE_CHECKING:
    from engine.statistics import OperatingPoint

RESAMPLES, SUBGROUP_RESAMPLES = 1000, 200
# Of larger cohorts fewer resamples are drawn, so that the work stays bounded.
MOST_DRAWN, FEWEST_RESAMPLES = 20_000_000, 200
# Metrics beside the task's own.
OF_PROBABILITIES = ("brier", "log_loss", "ece")
# Thresholds of a decision curve.
CURVE = np.linspace(0.01, 0.99, 99)
# Columns of so many values divide a cohort into subgroups.
MOST_VALUES = 12
AGE, AGE_BANDS = "age", (0, 20, 40, 60, 80, math.inf)
IN_THE_LARGE, SLOPE = "calibration in the large", "calibration slope"


@dataclass(frozen=True)
class CarriedPoint:
    """What a class or label is decided by, a threshold from training, and its figures here.

    ``figures`` are sensitivity, specificity, ppv and npv, the last two at ``prevalence``.
    """

    name: str
    rule: str
    threshold: float
    prevalence: float
    figures: Mapping[str, Interval]


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit per sample by threshold [K], of the model and of treating all; of none it is 0.

    Vickers and Elkin 2006, "Decision curve analysis".
    """

    name: str
    thresholds: np.ndarray
    model: np.ndarray
    treat_all: np.ndarray


@dataclass(frozen=True)
class Subgroup:
    """The samples of one value of a column; ``few`` where its figures say little."""

    column: str
    value: str
    samples: int
    groups: int
    figures: Mapping[str, Interval]
    few: bool


@dataclass(frozen=True)
class Validation:
    """Figures of labelled samples; a part is empty where it does not apply.

    ``metrics`` are the task's. ``calibration`` has, of what is predicted, calibration in the large
    and slope: of probabilities by logistic recalibration, of values the mean of true minus
    predicted, and the slope of true over predicted. ``resamples`` are of the metrics' intervals.
    """

    outputs: EpochOutputs
    names: Sequence[str]
    groups: Sequence[str]
    resamples: int
    metrics: Mapping[str, Interval]
    calibration: Mapping[str, Mapping[str, Interval]]
    points: Sequence[CarriedPoint] = ()
    curves: Sequence[DecisionCurve] = ()
    subgroups: Sequence[Subgroup] = field(default_factory=list)


def _intervals(
    outputs: EpochOutputs, groups: Sequence[str], names: Sequence[str], resamples: int, seed: int
) -> dict[str, Interval]:
    """Values of metrics, with intervals unless there are to be no resamples."""
    if not resamples:
        return {name: Interval(metric_value(name, outputs)) for name in names}
    return bootstrap_intervals(outputs, groups, names, resamples, seed=seed)


def validate(
    outputs: EpochOutputs,
    groups: Sequence[str],
    names: Sequence[str],
    points: Mapping[str, OperatingPoint],
    prevalence: float | None = None,
    table: pd.DataFrame | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Validation:
    """All figures of N samples, whose groups are drawn for intervals.

    ``points`` has the operating point of each class or label from training; its ``prevalence`` is
    that of the samples unless one is given, for two classes. ``table`` has columns, [N] each, by
    whose values subgroups are made. UsageError for a prevalence out of range or of other tasks.
    """
    if prevalence is not None:
        prevalence = check_prevalence(prevalence, outputs.task)
    names = list(names)
    if outputs.task == "regression":
        outputs = replace(outputs, targets=names)
    draws = min(resamples, max(FEWEST_RESAMPLES, MOST_DRAWN // max(1, len(groups))))
    wanted = metrics_of(outputs)
    found = Validation(
        outputs=outputs,
        names=names,
        groups=list(groups),
        resamples=draws,
        metrics=_intervals(outputs, groups, wanted, draws, seed),
        calibration=dict(_calibration(outputs, groups, names, draws, seed)),
        points=list(_carried(outputs, groups, names, points, prevalence, draws, seed)),
        curves=list(_curves(outputs, names, prevalence)),
    )
    if table is None:
        return found
    return replace(found, subgroups=list(_subgroups(found, points, table, seed)))


def check_prevalence(prevalence: float, task: str) -> float:
    """The prevalence; UsageError where it is out of range, or the task has no positive class."""
    if task != "binary":
        raise UsageError(f"a prevalence is of two classes, this model's task is {task}")
    return require_range("prevalence", prevalence, 0, 1, open_low=True)


def metrics_of(outputs: EpochOutputs) -> list[str]:
    """The metrics that are computed of a task's scores alone."""
    if outputs.task == "regression":
        return by_target(TASKS["regression"].metrics, outputs.target_names)
    return [*TASKS[outputs.task].metrics, *OF_PROBABILITIES]


def _calibration(
    outputs: EpochOutputs, groups: Sequence[str], names: Sequence[str], resamples: int, seed: int
) -> Iterator[tuple[str, dict[str, Interval]]]:
    if outputs.task == "regression":
        for number, name in enumerate(names):
            custom = _of_values(number)
            measured = replace(outputs, custom=custom)
            yield name, _intervals(measured, groups, list(custom), resamples, seed)
        return
    custom = {
        IN_THE_LARGE: CustomMetric(IN_THE_LARGE, _of_positive(calibration_in_the_large)),
        SLOPE: CustomMetric(SLOPE, _of_positive(calibration_slope)),
    }
    for _, name, scores, positive in ranked_outputs(outputs, names):
        own = replace(two_classes(scores, positive, outputs.sample_id), custom=custom)
        found = _intervals(own, groups, list(custom), resamples, seed)
        yield name, _without_few(found, own, groups)


def _of_positive(measure: Any) -> Any:
    return lambda scores, target: measure(scores[:, 1].numpy(), target.numpy() == 1)


def _of_values(number: int) -> dict[str, CustomMetric]:
    """Mean error and slope of one of several values."""

    def in_the_large(scores: torch.Tensor, target: torch.Tensor) -> float:
        return float((target[:, number] - scores[:, number]).mean())

    def slope(scores: torch.Tensor, target: torch.Tensor) -> float:
        predicted, true = scores[:, number].double(), target[:, number].double()
        apart = predicted - predicted.mean()
        return float((apart * true).sum() / apart.square().sum())

    made = ((IN_THE_LARGE, in_the_large), (SLOPE, slope))
    return {name: CustomMetric(name, measure) for name, measure in made}


def two_classes(scores: np.ndarray, positive: np.ndarray, sample_id: Sequence[str]) -> SavedOutputs:
    """Outputs of a class or label, of N probabilities and bool [N], against all others."""
    both = torch.from_numpy(np.stack([1 - scores, scores], axis=1))
    target = torch.from_numpy(positive.astype(np.int64))
    predicted = (both[:, 1] > both[:, 0]).long()
    return SavedOutputs(both, target, list(sample_id), {}, "binary", predicted=predicted)


def _without_few(
    found: Mapping[str, Interval], outputs: EpochOutputs, groups: Sequence[str]
) -> dict[str, Interval]:
    """The same without bounds where a class has too few groups for a bootstrap."""
    rarest = groups_of_rarest("auroc", outputs, groups)
    if rarest is None or rarest >= FEWEST_GROUPS:
        return dict(found)
    none = {"low": math.nan, "high": math.nan, "method": TOO_FEW}
    return {
        name: of if math.isnan(of.value) else replace(of, **none)  # type: ignore[arg-type]
        for name, of in found.items()
    }


def _carried(
    outputs: EpochOutputs,
    groups: Sequence[str],
    names: Sequence[str],
    points: Mapping[str, OperatingPoint],
    prevalence: float | None,
    resamples: int,
    seed: int,
) -> Iterator[CarriedPoint]:
    if outputs.task == "regression":
        return
    for _, name, scores, positive in ranked_outputs(outputs, names):
        point = points.get(name)
        if point is None or math.isnan(point.threshold):
            continue
        figures = figures_at_threshold(
            scores >= point.threshold, positive, groups, prevalence, resamples, seed
        )
        share = float(positive.mean()) if prevalence is None else prevalence
        yield CarriedPoint(name, point.name, point.threshold, share, figures)


def figures_at_threshold(
    predicted: np.ndarray,
    positive: np.ndarray,
    groups: Sequence[str],
    prevalence: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Sensitivity, specificity, ppv and npv of decisions, bool [N], with intervals.

    At a given prevalence the predictive values follow from sensitivity and specificity (Bayes).
    """
    sample_id = [str(number) for number in range(len(positive))]
    decided = two_classes(predicted.astype(np.float64), positive, sample_id)
    turned = two_classes(1.0 - predicted, ~positive, sample_id)
    both = ["recall", "precision"]
    of_positives, of_negatives = (
        _intervals(own, groups, both, resamples, seed) for own in (decided, turned)
    )
    found = {"sensitivity": of_positives["recall"], "specificity": of_negatives["recall"]}
    if prevalence is None:
        return found | {"ppv": of_positives["precision"], "npv": of_negatives["precision"]}

    def ppv(scores: torch.Tensor, target: torch.Tensor, share: float = prevalence) -> float:
        true = share * float(scores[target == 1, 1].mean())
        false = (1 - share) * float(scores[target == 0, 1].mean())
        return true / (true + false)

    def npv(scores: torch.Tensor, target: torch.Tensor) -> float:
        return ppv(1 - scores, 1 - target, 1 - prevalence)

    custom = {"ppv": CustomMetric("ppv", ppv), "npv": CustomMetric("npv", npv)}
    measured = replace(decided, custom=custom)
    drawn = _intervals(measured, groups, list(custom), resamples, seed)
    return found | _without_few(drawn, decided, groups)


def _curves(
    outputs: EpochOutputs, names: Sequence[str], prevalence: float | None
) -> Iterator[DecisionCurve]:
    if outputs.task == "regression":
        return
    for _, name, scores, positive in ranked_outputs(outputs, names):
        if not positive.any() or positive.all():
            continue
        table = threshold_table(scores, positive, CURVE)
        share = positive.mean() if prevalence is None else prevalence
        harm = (1 - share) * CURVE / (1 - CURVE)
        model = share * table["sensitivity"] - harm * (1 - table["specificity"])
        yield DecisionCurve(name, CURVE, model, share - harm)


def _subgroups(
    found: Validation, points: Mapping[str, OperatingPoint], table: pd.DataFrame, seed: int
) -> Iterator[Subgroup]:
    draws = min(found.resamples, SUBGROUP_RESAMPLES)
    outputs, groups = found.outputs, np.asarray(found.groups, dtype=str)
    metric = headline(outputs)
    for column, value, members in subgroup_members(table):
        rows = np.flatnonzero(members)
        own, of = outputs.take(rows.tolist()), groups[rows].tolist()
        figures = _intervals(own, of, [metric], draws, seed)
        rarest = groups_of_rarest(metric, own, of)
        if outputs.task == "binary":
            name = found.names[1]
            target = own.target.numpy() == 1
            if name in points and not math.isnan(points[name].threshold):
                predicted = own.scores[:, 1].numpy() >= points[name].threshold
                at = figures_at_threshold(predicted, target, of, None, draws, seed)
                figures |= {n: at[n] for n in ("sensitivity", "specificity")}
            figures["observed"] = Interval(float(target.mean()))
            figures["predicted"] = Interval(float(own.scores[:, 1].mean()))
        count = len(set(of))
        few = (count if rarest is None else rarest) < FEWEST_GROUPS
        yield Subgroup(column, value, len(rows), count, figures, few)


def headline(outputs: EpochOutputs) -> str:
    """The metric by which subgroups are compared."""
    return metrics_of(outputs)[0] if outputs.task == "regression" else "auroc"


def subgroup_members(table: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """Column, value, and which samples have it, bool [N].

    Columns of numbers are left out, but for an age, in bands of 20 years; columns of text where
    they have one value, or more than 12. Missing values are a subgroup of their own.
    """
    for name in table.columns:
        values = table[name]
        if pd.api.types.is_numeric_dtype(values):
            if str(name).lower() == AGE:
                yield from _age_bands(str(name), values.to_numpy(dtype=np.float64))
            continue
        text = values.astype(object).where(values.notna(), "(missing)").astype(str)
        kinds = sorted(text.unique())
        if 2 <= len(kinds) <= MOST_VALUES:
            for kind in kinds:
                yield str(name), kind, (text == kind).to_numpy()


def _age_bands(name: str, ages: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    for low, high in pairwise(AGE_BANDS):
        members = (ages >= low) & (ages < high)
        if members.any():
            text = f"{low} and over" if math.isinf(high) else f"{low} to under {high}"
            yield name, text, members
    if np.isnan(ages).any():
        yield name, "(missing)", np.isnan(ages)

"""A run's tables of predictions, and a finished run as its files tell it; no model is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from datasets.cohort import read_table
from datasets.errors import UsageError, nearest
from datasets.paths import as_path
from datasets.splits import COLUMNS
from datasets.summaries import WithSummary
from engine.metrics import (
    CLASSES,
    LAST_EPOCH,
    SAMPLE_STATISTICS,
    TASKS,
    UNDEFINED,
    EpochOutputs,
    by_target,
    check_metrics,
)
from engine.reporting import figure_text, read_log, with_bounds
from engine.statistics import Interval
from experiments.config import metric_name, read_yaml, recompute_metrics
from experiments.run_files.folder import RunFile, is_finished, is_run, run_names, to_resume

if TYPE_CHECKING:
    from datasets.cohort import Cohort

TARGET, PREDICTION, PROBABILITY = "target", "prediction", "prob_"
LABELLED_TARGET, LABELLED_PREDICTION = f"{TARGET}_", f"{PREDICTION}_"


@dataclass(frozen=True)
class SavedOutputs(EpochOutputs):
    """What a run wrote of its test samples; no model is needed to measure it.

    ``logits`` are probabilities [N, C] or [N, T], or a regression's values [N, T], in double
    precision; ``predicted`` classes long [N], labels (0 or 1) long [N, T], or values [N, T].
    """

    predicted: Tensor = field(kw_only=True)

    @cached_property
    def scores(self) -> Tensor:
        """What was written is what metrics are computed from."""
        return self.logits

    @property
    def predictions(self) -> Tensor:
        """What was predicted, by whatever threshold the run took."""
        return self.predicted

    def take(self, rows: Sequence[int]) -> SavedOutputs:
        """The same of some samples, in the order of ``rows``."""
        return replace(super().take(rows), predicted=self.predicted[list(rows)])


def read_predictions(path: Path) -> tuple[SavedOutputs, list[str]]:
    """The outputs in a table of predictions, and names of classes, labels or targets."""
    try:
        # As text: a class may be called NA, a sample 007.
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # no table, or not in UTF-8
        raise UsageError(f"{path}: expected a table of predictions, {error}") from error
    try:
        return outputs_of(table)
    except KeyError as error:
        raise UsageError(f"{path}: not as a run writes it (it lacks {error.args[0]})") from error
    except ValueError as error:
        raise UsageError(f"{path}: not as a run writes it ({error})") from error


def outputs_of(table: pd.DataFrame) -> tuple[SavedOutputs, list[str]]:
    """:func:`read_predictions` of a table whose cells are text."""
    samples = list(table["sample_id"])
    if len(set(samples)) < len(samples):
        raise ValueError("a sample stands there twice")
    if TARGET in table:
        names = _names(table, PROBABILITY)
        scores = _numbers(table, PROBABILITY, names)
        target, predicted = (_class_numbers(table[name], names) for name in (TARGET, PREDICTION))
        task = "binary" if len(names) == 2 else "multiclass"
    else:
        names = _names(table, LABELLED_TARGET)
        target = _numbers(table, LABELLED_TARGET, names)
        predicted = _numbers(table, LABELLED_PREDICTION, names)
        is_labels = any(str(column).startswith(PROBABILITY) for column in table)
        task = "multilabel" if is_labels else "regression"
        scores = _numbers(table, PROBABILITY, names) if is_labels else predicted
        predicted = predicted.long() if is_labels else predicted
    targets = names if task == "regression" else ()
    return SavedOutputs(
        scores, target, samples, {}, task, targets=targets, predicted=predicted
    ), names


def _names(table: pd.DataFrame, prefix: str) -> list[str]:
    columns = [str(column) for column in table]
    names = [column.removeprefix(prefix) for column in columns if column.startswith(prefix)]
    if not names:
        raise KeyError(f"{prefix}...")
    return names


def _numbers(table: pd.DataFrame, prefix: str, names: Sequence[str]) -> Tensor:
    # An empty cell is a NaN, of weights that diverged.
    text = table[[prefix + name for name in names]].replace("", "nan")
    return torch.from_numpy(np.array(text, dtype=np.float64))


def _class_numbers(column: pd.Series[str], names: Sequence[str]) -> Tensor:
    unknown = set(column) - set(names)
    if unknown:
        raise ValueError(f"'{min(unknown)}' is none of the classes {', '.join(names)}")
    return torch.tensor([names.index(name) for name in column], dtype=torch.long)


def predictions_table(outputs: EpochOutputs, cohort: Cohort) -> pd.DataFrame:
    """One row a sample.

    Of classes ``sample_id``, ``target``, ``prediction``, ``prob_<class>``, target and prediction
    being names; of labels ``target_<label>``, ``prediction_<label>`` (0 or 1) and
    ``prob_<label>``; of values ``target_<column>`` and ``prediction_<column>``, in its unit.
    """
    row_of = {name: row for row, name in enumerate(cohort.sample_ids)}
    target = cohort.targets[[row_of[name] for name in outputs.sample_id]]
    return outputs_table(outputs, cohort.class_names, target)


def outputs_table(
    outputs: EpochOutputs, names: Sequence[str], target: np.ndarray | None
) -> pd.DataFrame:
    """:func:`predictions_table` of any outputs, with the targets [N] or [N, T], if any.

    A class of -1 is an empty cell.
    """
    predicted = outputs.predictions.numpy()
    table = pd.DataFrame({"sample_id": outputs.sample_id})
    if outputs.task in CLASSES:
        named = np.array([*names, None], dtype=object)
        if target is not None:
            table[TARGET] = named[target]
        table[PREDICTION] = named[predicted]
    else:
        for number, name in enumerate(names):
            if target is not None:
                table[LABELLED_TARGET + name] = target[:, number]
            table[LABELLED_PREDICTION + name] = predicted[:, number]
    if outputs.task != "regression":
        probabilities = outputs.probabilities.numpy()
        for number, name in enumerate(names):
            table[PROBABILITY + name] = probabilities[:, number]
    return table


# An unpacked package has them all.
NEEDED = (RunFile.CONFIG, RunFile.ENVIRONMENT, RunFile.SPLITS, RunFile.METRICS, RunFile.PREDICTIONS)


@dataclass(frozen=True, repr=False)
class FinishedRun(WithSummary):
    """What a run left behind.

    ``config`` has the derived settings too. ``monitor`` chose the best epoch, by the largest (mode
    ``max``) or smallest value, which is ``validation``; it is the task's if no epoch was chosen.
    ``groups`` and ``subsets`` are of each sample. ``parameters`` are trainable, None without a
    summary; ``seconds`` are NaN without a log. ``not_computed``: own metrics -> why.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: Mapping[str, Any]
    model: str
    monitor: str | None
    mode: str
    validation: float
    epochs: int
    asked_for: list[str]
    outputs: SavedOutputs
    class_names: list[str]
    groups: Mapping[str, str]
    subsets: Mapping[str, str]
    parameters: int | None
    seconds: float
    not_computed: Mapping[str, str]

    def summary(self) -> dict[str, object]:
        """Name, model, length, and the validation figure that chose the epoch."""
        found = {"name": self.name, "model": self.model, "epochs": self.epochs}
        return {**found, str(self.monitor): figure_text(self.validation)}

    def details(self) -> dict[str, object]:
        """The folder, and the test set's metrics."""
        measured = {f"test/{n}": with_bounds(self.test_figure(n)) for n in self.metric_names}
        return {"folder": self.folder, **measured}

    @property
    def metric_names(self) -> list[str]:
        """The metrics that the run was asked for and that can be computed from predictions."""
        untold = (*SAMPLE_STATISTICS, *self.not_computed)
        return [name for name in self.asked_for if name not in untold]

    def samples_of(self, subset: str) -> set[str]:
        """The samples of ``train``, ``val`` or ``test``."""
        return {sample for sample, own in self.subsets.items() if own == subset}

    def test_figure(self, metric: str) -> Interval:
        """What the run itself measured on its test set, and the interval if it drew one."""
        test = self.metrics["test"]
        bounds = (test.get("intervals") or {}).get(metric) or (None, None)
        low, high = (UNDEFINED if bound is None else float(bound) for bound in bounds)
        method = (test.get("interval_methods") or {}).get(metric, "")
        return Interval(read_metric(test, metric), low, high, method=method)


def read_metric(summary: Mapping[str, Any] | None, name: str) -> float:
    """A metric of a part of ``metrics.json``; NaN where it was undefined or not measured."""
    value = None if summary is None else summary["metrics"].get(name)
    return math.nan if value is None else float(value)


def find_runs(which: Sequence[str], runs_dir: Path) -> list[Path]:
    """The folders of runs that are given as folders, or by names within ``runs_dir``."""
    folders: list[Path] = []
    for name in which:
        found = [folder for folder in (as_path(name), runs_dir / name) if is_run(folder)]
        if not found:
            raise UsageError(f"no run '{name}' in {runs_dir}{nearest(name, run_names(runs_dir))}")
        if any(found[0].resolve() == other.resolve() for other in folders):
            raise UsageError(f"the run {found[0]} is given twice")
        folders.append(found[0])
    return folders


def read_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """Read finished runs or unpacked packages; folders of one name are called by their paths."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def read_run(folder: Path, name: str) -> FinishedRun:
    """Read a finished run from its files."""
    missing = [needed for needed in NEEDED if not (folder / needed).is_file()]
    if missing:
        raise UsageError(f"{folder} lacks {missing[0]}: only finished runs can be compared")
    if (folder / RunFile.LOG).is_file() and not is_finished(folder):
        raise UsageError(f"{folder} was cut off: continue it ({to_resume(folder)}), then compare")
    outputs, class_names = read_predictions(folder / RunFile.PREDICTIONS)
    splits = read_table(folder / RunFile.SPLITS, COLUMNS)
    resolved = folder / RunFile.RESOLVED  # runs of earlier versions have none
    config = _read_plain(resolved if resolved.is_file() else folder / RunFile.CONFIG)
    environment, metrics = (_read_plain(folder / n) for n in (RunFile.ENVIRONMENT, RunFile.METRICS))
    custom, not_computed = recompute_metrics(
        config.get("metrics") or [], outputs.task, len(class_names)
    )
    if metrics.get("test") is None:
        raise UsageError(f"{folder} was not tested: there is nothing to compare")
    summary, log = folder / RunFile.SUMMARY, folder / RunFile.LOG
    text = summary.read_text("utf-8") if summary.is_file() else ""
    counted = re.search(r"\(([\d,]+) parameters\)", text)
    epochs = [row for row in read_log(log) if row["event"] == "epoch"] if log.is_file() else None
    try:
        monitor, mode = metrics["monitor"], str(metrics["mode"])
        if monitor == LAST_EPOCH:  # no epoch was selected: the task's metric tells runs apart
            several = outputs.task == "regression" and len(outputs.targets) > 1
            task = TASKS[outputs.task]
            monitor, mode = ("val/r2", "max") if several else (task.monitor, task.mode)
        run = FinishedRun(
            name=name,
            folder=folder,
            config=config,
            environment=environment,
            metrics=metrics,
            model=str(config["model"]["name"]),
            monitor=monitor,
            mode=mode,
            validation=read_metric(metrics["best"], str(monitor)),
            epochs=int(metrics["last"]["epoch"]),
            asked_for=by_target([metric_name(e) for e in config["metrics"]], outputs.targets),
            outputs=replace(outputs, custom=custom),
            class_names=class_names,
            groups=dict(zip(splits["sample_id"], splits["group"], strict=True)),
            subsets=dict(zip(splits["sample_id"], splits["split"], strict=True)),
            parameters=int(counted[1].replace(",", "")) if counted else None,
            seconds=math.nan if epochs is None else sum(row["seconds"] for row in epochs),
            not_computed=not_computed,
        )
        for metric in run.metric_names:
            run.test_figure(metric)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{folder}: {RunFile.CONFIG} and {RunFile.METRICS} are not as a run writes them"
        ) from error
    try:
        own = tuple(name for name in run.metric_names if name not in custom)
        check_metrics(own, outputs.task, outputs.targets)
    except UsageError as error:
        raise UsageError(f"{folder / RunFile.CONFIG}: {error}") from error
    strange = set(outputs.sample_id) - run.samples_of("test")
    if strange:
        raise UsageError(
            f"{folder}: {RunFile.PREDICTIONS} holds sample '{min(strange)}', which "
            f"{RunFile.SPLITS} does not have on the test side"
        )
    return run


def _read_plain(path: Path) -> dict[str, Any]:
    """The content of a YAML or JSON file, which JSON is too."""
    values = read_yaml(path.read_text("utf-8"), str(path))
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected sections and keys, got {type(values).__name__}")
    return values

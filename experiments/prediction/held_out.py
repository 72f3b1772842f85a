"""What a model, or its likes, predicted of samples that it was not trained on."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from datasets.errors import UsageError, one_line
from engine.statistics import OperatingPoint
from experiments.prediction.model_files import ModelFiles
from experiments.prediction.predictor import BaselinePredictor
from experiments.run_files import RunFile, SavedOutputs, outputs_of

if TYPE_CHECKING:
    from experiments.prediction.loaded_model import LoadedModel

OUT_OF_FOLD = "predictions_oof.csv"
SPLIT_COLUMNS = ("sample_id", "group", "split")
VALIDATION, TEST = "the validation set", "the run's test set"
FOLDS = "the test folds of the cross-validation"
# How a cross-validation names the fusion of baselines, which has the name of a network's.
FUSED, OF_MODEL = "baselines_", ":"


@dataclass(frozen=True)
class HeldOut:
    """Outputs of samples, the group of each, and which samples they are."""

    outputs: SavedOutputs
    groups: list[str]
    source: str


def calibration_samples(model: LoadedModel) -> HeldOut:
    """A run's validation set, or all test folds of the cross-validation that recommends the model.

    The folds' predictions are of models trained like this one on fewer samples (cross-conformal
    prediction by pooled scores: Vovk 2015, "Cross-conformal predictors"; its guarantee is looser).
    UsageError where there is neither.
    """
    found = _of_run(model, RunFile.VAL_PREDICTIONS, VALIDATION) or _of_folds(model)
    if found is None:
        raise UsageError(
            f"prediction sets need predictions of samples that the model was not trained on: "
            f"{model.files.where} has no {RunFile.VAL_PREDICTIONS}"
        )
    return found


def internal_samples(model: LoadedModel) -> HeldOut | None:
    """A run's test set, or the test folds of a cross-validation; None where there is neither."""
    return _of_run(model, RunFile.PREDICTIONS, TEST) or _of_folds(model)


def trained_samples(model: LoadedModel) -> set[str]:
    """The names of the samples that a model was trained on; empty where nothing says.

    Those of the validation set are among them after a refit; of a recommended model all samples of
    its cross-validation are.
    """
    splits = _table(model.files, RunFile.SPLITS, SPLIT_COLUMNS)
    if splits is None:
        folds = _fold_table(model)
        return set() if folds is None else set(folds[1]["sample_id"])
    parts = ["train", "val"] if model.fitted.config.trainer.refit else ["train"]
    return set(splits.loc[splits["split"].isin(parts), "sample_id"])


def tested_samples(model: LoadedModel) -> set[str]:
    """The names of a run's test samples; empty where nothing says."""
    splits = _table(model.files, RunFile.SPLITS, SPLIT_COLUMNS)
    return set() if splits is None else set(splits.loc[splits["split"] == "test", "sample_id"])


def carried_points(model: LoadedModel) -> dict[str, OperatingPoint]:
    """The operating point of each class or label that was chosen on held-out samples."""
    found = {}
    for name, points in (model.decided.get("thresholds") or {}).items():
        if points:
            first = {**points[0], "threshold": _number(points[0]["threshold"])}
            found[name] = OperatingPoint(**first)
    return found


def _number(value: Any) -> float:
    """A threshold as JSON has it: null where there is none, a text where it is infinite."""
    return math.nan if value is None else float(value)


def _of_run(model: LoadedModel, name: str, source: str) -> HeldOut | None:
    table, rows = _table(model.files, name), _table(model.files, RunFile.SPLITS, SPLIT_COLUMNS)
    if table is None or rows is None:
        return None
    outputs = _outputs(table, f"{model.files.where}: {name}")
    group_of = dict(zip(rows["sample_id"], rows["group"], strict=True))
    groups = [group_of.get(sample, sample) for sample in outputs.sample_id]
    return HeldOut(outputs, groups, source)


def _of_folds(model: LoadedModel) -> HeldOut | None:
    folds = _fold_table(model)
    if folds is None:
        return None
    path, table = folds
    table = table[~table["sample_id"].duplicated()]  # of several repeats the first
    own = model.predictors[0]
    names = [model.fitted.config.model.name]
    if isinstance(own, BaselinePredictor):
        names = [FUSED + own.name, own.name]
    there = {str(column).partition(OF_MODEL)[0] for column in table if OF_MODEL in str(column)}
    name = next((name for name in names if name in there), None)
    if name is None:
        raise UsageError(f"{path} has no predictions of {names[-1]}, only of {_and(there)}")
    start = name + OF_MODEL
    wanted = {c: str(c).removeprefix(start) for c in table if str(c).startswith(start)}
    shared = [c for c in table if c == "sample_id" or str(c).partition("_")[0] == "target"]
    outputs = _outputs(table[[*shared, *wanted]].rename(columns=wanted), str(path))
    return HeldOut(outputs, table["group"].tolist(), FOLDS)


def _fold_table(model: LoadedModel) -> tuple[Path, pd.DataFrame] | None:
    """The test folds' predictions, where a cross-validation has made the model."""
    folders = model.files.where.absolute().parents[:2]
    found = (_table(ModelFiles(up), OUT_OF_FOLD, ("sample_id", "group")) for up in folders)
    both = zip((up / OUT_OF_FOLD for up in folders), found, strict=True)
    return next(((path, table) for path, table in both if table is not None), None)


def _table(
    files: ModelFiles, name: str, columns: Sequence[str] = ("sample_id",)
) -> pd.DataFrame | None:
    """A file's table, every cell as text; None where there is none."""
    content = files.read(name)
    if content is None:
        return None
    try:
        # As text: a class may be called NA, a sample 007.
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    except ValueError as error:  # empty, uneven, or not UTF-8
        raise UsageError(
            f"{files.where}: {name} is not as a run writes it: {one_line(error)}"
        ) from error
    for column in columns:
        if column not in table:
            raise UsageError(f"{files.where}: {name} is not as a run writes it: no {column!r}")
    return table


def _outputs(table: pd.DataFrame, where: str | Path) -> SavedOutputs:
    try:
        return outputs_of(table)[0]
    except (KeyError, ValueError) as error:
        raise UsageError(f"{where}: not as a run writes it ({error})") from error


def _and(names: set[str]) -> str:
    return ", ".join(sorted(names))

"""The test samples of a finished run, read back from its ``predictions.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from datasets.errors import UsageError
from engine.metrics import EpochOutputs

TARGET, PREDICTION, PROBABILITY = "target", "prediction", "prob_"
LABELLED_TARGET, LABELLED_PREDICTION = f"{TARGET}_", f"{PREDICTION}_"


@dataclass(frozen=True)
class SavedOutputs(EpochOutputs):
    """What a run wrote of its test samples; no model is needed to measure it.

    Attributes:
        logits: Probabilities [N, C] or [N, T], or a regression's values [N, T], in double
            precision: they are written with all their digits, logits are not written at all.
        said: The decisions as they were written: classes long [N], labels (0 or 1) long [N, T],
            or values [N, T].
    """

    said: Tensor = field(kw_only=True)

    @cached_property
    def scores(self) -> Tensor:
        """What was written is what metrics are computed from."""
        return self.logits

    @property
    def predictions(self) -> Tensor:
        """What was said, by whatever threshold the run took."""
        return self.said

    def take(self, rows: Sequence[int]) -> SavedOutputs:
        """The same of some samples, in the order of ``rows``."""
        return replace(super().take(rows), said=self.said[list(rows)])


def read_predictions(path: Path) -> tuple[SavedOutputs, list[str]]:
    """Read what :func:`experiments.runs.predictions_table` wrote.

    Args:
        path: A run's ``predictions.csv``; its columns tell the task.

    Returns:
        The outputs, and the names of the classes, the labels or the regression's targets.

    Raises:
        UsageError: It cannot be read, or is no table of predictions.
    """
    try:
        # As text: a class may be called NA, a sample 007.
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # no table, or not in UTF-8
        raise UsageError(f"{path}: expected a table of predictions, {error}") from error
    try:
        return _as_outputs(table)
    except (KeyError, ValueError) as error:
        raise UsageError(f"{path}: not as a run writes it ({_told(error)})") from error


def _as_outputs(table: pd.DataFrame) -> tuple[SavedOutputs, list[str]]:
    samples = list(table["sample_id"])
    if len(set(samples)) < len(samples):
        raise ValueError("a sample stands there twice")
    if TARGET in table:
        names = _names(table, PROBABILITY)
        scores = _numbers(table, PROBABILITY, names)
        target, said = (_class_numbers(table[name], names) for name in (TARGET, PREDICTION))
        task = "binary" if len(names) == 2 else "multiclass"
    else:
        names = _names(table, LABELLED_TARGET)
        target = _numbers(table, LABELLED_TARGET, names)
        said = _numbers(table, LABELLED_PREDICTION, names)
        is_labels = any(str(column).startswith(PROBABILITY) for column in table)
        task = "multilabel" if is_labels else "regression"
        scores = _numbers(table, PROBABILITY, names) if is_labels else said
        said = said.long() if is_labels else said
    targets = names if task == "regression" else ()
    return SavedOutputs(scores, target, samples, {}, task, targets=targets, said=said), names


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


def _told(error: Exception) -> str:
    return f"it lacks {error.args[0]}" if isinstance(error, KeyError) else str(error)

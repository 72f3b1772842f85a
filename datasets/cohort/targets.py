"""Targets of the samples: classes, labels or values, and their scaling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from datasets.cohort.roles import MISSING_LABEL, NO_LABEL_TEXT, SAMPLE_ID, number_classes
from datasets.cohort.table import as_numbers, is_missing
from datasets.errors import CohortError, nearest
from datasets.messages import Message

TASKS = ("binary", "multiclass", "multilabel", "regression")
# Two classes are a binary task, more a multi-class one.
# Significant digits of a spread, and the most that a floating-point number has.
DIGITS, MOST_DIGITS = 4, 15
AUTO = "auto"
SEVERAL_COLUMNS = ("multilabel", "regression")
# Spellings of a label's presence and absence.
BOOLEANS = {
    text: str(int(truth))
    for truth in (True, False)
    for text in (str(truth), str(truth).lower(), str(truth).upper())
}
_HEADINGS = {"multilabel": "labels", "regression": "targets"}


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of a table's samples.

    Attributes:
        task: One of ``TASKS``.
        names: Of the classes by number, or of the label or target columns.
        values: Class numbers int64 [N], labels (0 or 1) int64 [N, T], or values float64 [N, T];
            undefined for samples that are not kept.
        kept: Which samples have a target, bool [N].
        excluded: Labels that were left out, "(missing)" among them, with their counts.
        missing: Texts of the cells without a label or value (``NA``, an empty text), with their
            counts.
    """

    task: str
    names: list[str]
    values: np.ndarray
    kept: np.ndarray
    excluded: dict[str, int]
    missing: dict[str, int] = field(default_factory=dict)


def read_targets(
    table: pd.DataFrame,
    columns: Sequence[str],
    task: str,
    labels: Mapping[Any, int] | None,
    where: str,
) -> Targets:
    """Read the targets of N samples from their columns; see :func:`number_classes` for ``labels``.

    Raises:
        CohortError: The columns do not hold what the task needs.
    """
    if task not in (AUTO, *TASKS):
        raise CohortError(f"task {task!r} is unknown{nearest(task, (AUTO, *TASKS))}")
    if task not in SEVERAL_COLUMNS:
        return _read_classes(table, columns, task, labels, where)
    if labels is not None:
        raise CohortError(f"labels number classes, but task {task!r} has none; leave them out")
    absent = {column: has_no_label(table[column]) for column in columns}
    missing = np.any(list(absent.values()), axis=0)
    if missing.all():
        raise CohortError(f"{where}: no sample has a value of {_listed(columns)}")
    given = table[~missing]
    read = _read_labels if task == "multilabel" else _read_values
    found = np.stack([read(given[c], given[SAMPLE_ID].tolist(), where) for c in columns], axis=1)
    values = np.zeros((len(table), len(columns)), dtype=found.dtype)
    values[~missing] = found
    excluded = {MISSING_LABEL: int(missing.sum())} if missing.any() else {}
    texts = [str(text) for column, none in absent.items() for text in table[column][none]]
    return Targets(task, list(columns), values, ~missing, excluded, dict(Counter(texts)))


def has_no_label(column: pd.Series) -> np.ndarray:
    """Which cells of a column of labels or values hold none, bool [N]."""
    return is_missing(column) | column.isin(NO_LABEL_TEXT).to_numpy(dtype=bool)


def describe_missing(task: str, targets: Mapping[str, int], samples: int) -> Message:
    """How many samples have no target, and what their cells hold, in one line."""
    what = "value" if task == "regression" else "label"
    seen = [Message("{} {}", text or Message("empty"), count) for text, count in targets.items()]
    return Message(f"samples without a {what}: {{}}, left out ({{}})", samples, seen)


def targets_heading(task: str) -> str:
    """Heading of :func:`summarise_targets`."""
    return _HEADINGS.get(task, "classes")


def spread_texts(values: np.ndarray) -> list[str]:
    """Mean, standard deviation, minimum and maximum, with digits that the spread shows in.

    Example:
        >>> spread_texts(np.array([1e8 + 1.25, 1e8 + 3.75]))
        ['100000002.5', '1.25', '100000001.25', '100000003.75']
    """
    spread, largest, digits = float(values.std()), float(np.abs(values).max()), DIGITS
    if 0 < spread < largest:
        digits = min(MOST_DIGITS, DIGITS + int(np.log10(largest / spread)))
    numbers = (values.mean(), values.min(), values.max())
    mean, low, high = (f"{number:.{digits}g}" for number in numbers)
    return [mean, f"{spread:.{DIGITS}g}", low, high]


def summarise_targets(task: str, values: np.ndarray, names: Sequence[str]) -> Message:
    """Distribution of the targets of at least one sample, in one line."""
    if task == "regression":
        told = []
        for name, column in zip(names, values.T, strict=True):
            mean, spread, low, high = spread_texts(column)
            told.append(Message("{} {} +- {} ({} to {})", name, mean, spread, low, high))
        return Message("{}", told)
    one_column = values.ndim == 1
    counts = np.bincount(values, minlength=len(names)) if one_column else values.sum(axis=0)
    pairs = zip(names, counts, strict=True)
    return Message("{}", [Message("{} {}", name, count) for name, count in pairs])


def _read_classes(
    table: pd.DataFrame,
    columns: Sequence[str],
    task: str,
    labels: Mapping[Any, int] | None,
    where: str,
) -> Targets:
    if len(columns) != 1:
        raise CohortError(
            f"label lists {len(columns)} columns ({', '.join(columns)}); task {task!r} takes one: "
            f"choose task {' or '.join(SEVERAL_COLUMNS)}"
        )
    values, names, excluded = number_classes(table[columns[0]], labels, where)
    without = table[columns[0]][(values < 0) & has_no_label(table[columns[0]])]
    missing = dict(Counter(map(str, without)))
    found = "binary" if len(names) == 2 else "multiclass"
    if task not in (AUTO, found):
        raise CohortError(
            f"{where}: {columns[0]!r} makes {len(names)} classes ({', '.join(names)}), which is "
            f"task {found!r}, not {task!r}; labels can join or leave out some"
        )
    return Targets(found, names, values, values >= 0, excluded, missing)


def _read_labels(column: pd.Series, sample_ids: Sequence[str], where: str) -> np.ndarray:
    """Labels (0 or 1), int64 [N]."""
    written = column.replace(BOOLEANS)
    numbers = np.asarray(pd.to_numeric(written, errors="coerce"), dtype=np.float64)
    bad = ~np.isin(numbers, (0, 1))
    if bad.any():
        row = int(np.argmax(bad))
        raise CohortError(
            f"{where}: label {column.name!r} of sample {sample_ids[row]!r} is "
            f"{str(column.iloc[row])!r}; 0 or 1, True or False was expected"
        )
    return numbers.astype(np.int64)


def _read_values(column: pd.Series, sample_ids: Sequence[str], where: str) -> np.ndarray:
    """Values to regress, float64 [N]."""
    name = str(column.name)
    if column.isin(BOOLEANS).all():
        raise CohortError(
            f"{where}: regression target {name!r} holds True and False; choose task binary, or "
            "multilabel for several such columns"
        )
    numbers = as_numbers(column, name, sample_ids, "regression target", "choose another task")
    if len(numbers) > 1 and (numbers == numbers[0]).all():
        raise CohortError(
            f"{where}: regression target {name!r} is {numbers[0]:g} in all {len(numbers)} samples; "
            "there is nothing to learn"
        )
    return numbers


def _listed(columns: Sequence[str]) -> str:
    return " and ".join(repr(column) for column in columns)


class TargetScaler:
    """Regression targets standardised to mean 0 and standard deviation 1; fitted on training data.

    Example:
        >>> scaler = TargetScaler().fit(np.array([[10.0], [30.0]]))
        >>> scaler.standardize(np.array([[40.0]])).tolist()
        [[2.0]]
        >>> scaler.restore(torch.tensor([[2.0]])).tolist()
        [[40.0]]
    """

    def __init__(self) -> None:
        self._mean: np.ndarray | None = None
        self._std: np.ndarray | None = None

    def fit(self, values: np.ndarray) -> TargetScaler:
        """Learn mean and standard deviation of targets [N, T]; constant ones are only shifted."""
        values = np.asarray(values, dtype=np.float64)
        spread = values.std(axis=0)
        self._mean, self._std = values.mean(axis=0), np.where(spread > 0, spread, 1.0)
        return self

    def standardize(self, values: np.ndarray) -> np.ndarray:
        """From the columns' units, float [N, T], to standardised values, float32 [N, T]."""
        mean, std = self._fitted()
        standardised: np.ndarray = ((values - mean) / std).astype(np.float32)
        return standardised

    def restore(self, values: Tensor) -> Tensor:
        """From standardised values, [N, T], to the columns' units, in double precision."""
        mean, std = self._fitted()
        return values.double() * torch.from_numpy(std) + torch.from_numpy(mean)

    def state_dict(self) -> dict[str, Any]:
        """Means and standard deviations, as plain lists."""
        mean, std = self._fitted()
        return {"mean": mean.tolist(), "std": std.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._mean = np.array(state["mean"], dtype=np.float64)
        self._std = np.array(state["std"], dtype=np.float64)

    def _fitted(self) -> tuple[np.ndarray, np.ndarray]:
        if self._mean is None or self._std is None:
            raise RuntimeError("TargetScaler: fit or load_state_dict comes first")
        return self._mean, self._std

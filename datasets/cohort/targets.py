"""What is to be learned of each sample: a class, labels that are there or not, or values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from datasets.cohort.roles import MISSING_LABEL, NO_LABEL_TEXT, SAMPLE_ID, number_classes
from datasets.cohort.table import as_numbers, is_missing
from datasets.errors import CohortError, nearest

TASKS = ("binary", "multiclass", "multilabel", "regression")
# Two classes are a binary task, more a multi-class one.
# Significant digits of a spread, and the most that a floating-point number has.
DIGITS, MOST_DIGITS = 4, 15
AUTO = "auto"
SEVERAL_COLUMNS = ("multilabel", "regression")
# As programs write a label that is there or not.
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
        values: Class numbers int64 [N], labels (0 or 1) int64 [N, T], or values float64 [N, T].
            What stands there for a sample that is not kept has no meaning.
        kept: Which samples have a target, bool [N].
        excluded: Labels that were left out, "(missing)" among them, with their counts.
        missing: What stands in the cells of those that have no label or value (``NA``, an empty
            text), with how many cells it is.
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
    """Read the targets from their columns.

    Args:
        table: As text, with ``sample_id``, N rows.
        columns: One column of labels; for several labels or values one column each.
        task: One of ``TASKS``, or "auto".
        labels: Class number of each label, for classes only; see
            :func:`datasets.cohort.roles.number_classes`.
        where: What the table is called in an error line.

    Raises:
        CohortError: The columns do not hold what the task needs.

    Example:
        >>> table = pd.DataFrame({"sample_id": ["a", "b", "c"], "age": ["40", "", "61.5"]})
        >>> targets = read_targets(table, ["age"], "regression", None, "samples.csv")
        >>> targets.values[targets.kept].tolist(), targets.excluded
        ([[40.0], [61.5]], {'(missing)': 1})
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
    """Which cells of a column of labels or values hold none, bool [N].

    Example:
        >>> has_no_label(pd.Series(["1", "", "NA", "None"])).tolist()
        [False, True, True, True]
    """
    return is_missing(column) | column.isin(NO_LABEL_TEXT).to_numpy(dtype=bool)


def describe_missing(task: str, targets: Mapping[str, int], samples: int) -> str:
    """Say in a line how many samples have no target, by what is seen, and what becomes of them.

    Args:
        task: One of ``TASKS``.
        targets: As :attr:`Targets.missing`.
        samples: How many have none.

    Example:
        >>> describe_missing("binary", {"NA": 2, "": 1}, 3)
        'samples without a label: 3, left out (NA 2, empty 1)'
    """
    what = "value" if task == "regression" else "label"
    seen = ", ".join(f"{text or 'empty'} {count}" for text, count in targets.items())
    return f"samples without a {what}: {samples}, left out ({seen})"


def targets_heading(task: str) -> str:
    """What the things that :func:`summarise_targets` lists are called."""
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


def summarise_targets(task: str, values: np.ndarray, names: Sequence[str]) -> str:
    """Say in a line how targets are spread.

    Args:
        task: One of ``TASKS``.
        values: As in :class:`Targets`, at least one sample.
        names: Likewise.

    Example:
        >>> summarise_targets("multiclass", np.array([0, 0, 2]), ["A", "B", "C"])
        'A 2, B 0, C 1'
        >>> summarise_targets("regression", np.array([[20.0], [30.0]]), ["BMI"])
        'BMI 25 +- 5 (20 to 30)'
    """
    if task == "regression":
        told = []
        for name, column in zip(names, values.T, strict=True):
            mean, spread, low, high = spread_texts(column)
            told.append(f"{name} {mean} +- {spread} ({low} to {high})")
        return ", ".join(told)
    one_column = values.ndim == 1
    counts = np.bincount(values, minlength=len(names)) if one_column else values.sum(axis=0)
    return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))


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
    """Read whether a label is there, int64 [N]."""
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
    """Read values to regress, float64 [N]."""
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

"""Targets of the samples: classes, of two the positive one, labels or values, and their scaling."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch import Tensor

from datasets.cohort.names import SAMPLE_ID
from datasets.cohort.table import MISSING_TEXT, as_numbers, is_missing
from datasets.errors import CohortError, nearest
from datasets.messages import Message

TASKS = ("binary", "multiclass", "multilabel", "regression")
# The task of samples that are read without their targets.
UNLABELLED = "unlabelled"
# Significant digits of a spread, and the most that a floating-point number has.
DIGITS, MOST_DIGITS = 4, 15
AUTO = "auto"
SEVERAL_COLUMNS = ("multilabel", "regression")
# Spellings of a label's presence and absence.
BOOLEANS = dict.fromkeys(("True", "true", "TRUE"), "1")
BOOLEANS |= dict.fromkeys(("False", "false", "FALSE"), "0")
HEADINGS = {"multilabel": "labels", "regression": "targets"}
# No label has this name, unless `labels` lists it: Python writes its None as a word.
NO_LABEL_TEXT = MISSING_TEXT | {"None"}
# Name of the left-out samples without a label.
MISSING_LABEL = "(missing)"
TRUTHS = (str(True), str(False))
# Words that name the negative class.
_NEGATIVE = """
control controls ctrl ctrls ctl healthy normal normals negative negatives neg benign no none absent
absence false hc nc wt wildtype susceptible unaffected uninfected untreated noncase noncases
"""
NEGATIVE_WORDS = frozenset(_NEGATIVE.split())
# Words that may accompany them.
_BESIDE = "group donor donors volunteer volunteers subject subjects sample samples"
BESIDE = frozenset(_BESIDE.split())
# Abbreviations that mean something only beside their opposite: negative, positive.
PAIRS = (("n", "y"), ("n", "p"), ("f", "t"), ("s", "r"), ("-", "+"))
# Prefixes of a negated word: responder, non-responder.
NEGATIONS = ("no", "non", "not", "without")


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of a table's samples.

    ``names`` are those of the classes by number, or of the columns. ``values`` are class numbers
    int64 [N], labels (0 or 1) int64 [N, T], or values float64 [N, T], undefined where not ``kept``,
    bool [N]. ``excluded`` counts the labels left out, "(missing)" among them, ``missing`` the texts
    of cells without a label or value.
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
    """Read the targets of N samples; :func:`number_classes` tells of ``labels``.

    Of the task "unlabelled" all samples are kept, and their targets are [N, 0].
    """
    if task == UNLABELLED:
        kept = np.ones(len(table), dtype=bool)
        return Targets(UNLABELLED, [], np.zeros((len(table), 0)), kept, {})
    if task not in (AUTO, *TASKS):
        raise CohortError(f"task {task!r} is unknown{nearest(task, (AUTO, *TASKS))}")
    if task not in SEVERAL_COLUMNS:
        return _read_classes(table, columns, task, labels, where)
    if labels is not None:
        raise CohortError(f"labels number classes, but task {task!r} has none; leave them out")
    absent = {column: has_no_label(table[column]) for column in columns}
    missing = np.any(list(absent.values()), axis=0)
    if missing.all():
        raise CohortError(f"{where}: no sample has a value of {' and '.join(map(repr, columns))}")
    given = table[~missing]
    read = _read_labels if task == "multilabel" else _read_values
    found = np.stack([read(given[c], given[SAMPLE_ID].tolist(), where) for c in columns], axis=1)
    values = np.zeros((len(table), len(columns)), dtype=found.dtype)
    values[~missing] = found
    excluded = {MISSING_LABEL: int(missing.sum())} if missing.any() else {}
    texts = [str(text) for column, none in absent.items() for text in table[column][none]]
    return Targets(task, list(columns), values, ~missing, excluded, dict(Counter(texts)))


def match_targets(
    table: pd.DataFrame, columns: Sequence[str], task: str, numbers: Mapping[str, int], where: str
) -> np.ndarray:
    """The targets of N samples as a trained model has them, -1 or NaN where there is none.

    ``numbers`` are the class numbers of a classification's labels. Class numbers int64 [N], labels
    int64 [N, T] or values float64 [N, T]. CohortError for a label without a number.
    """
    known = list(numbers)
    missing = np.any([has_no_label(table[c]) & ~table[c].isin(known) for c in columns], axis=0)
    given = table[~missing]
    if task not in SEVERAL_COLUMNS:
        column = given[columns[0]]
        # True and False are spelled in several ways.
        alike = {s: numbers[t] for t in known for s in BOOLEANS if BOOLEANS.get(t) == BOOLEANS[s]}
        number_of = {**alike, **numbers}
        found = np.array([number_of.get(text, -1) for text in column], dtype=np.int64)
        if (found < 0).any():
            unknown = column[found < 0]
            raise CohortError(
                f"{where}: label {unknown.iloc[0]!r} of {columns[0]!r} ({len(unknown)} samples) is "
                f"none of the model's{nearest(unknown.iloc[0], numbers)}"
            )
        targets = np.full(len(table), -1, dtype=np.int64)
    else:
        read = _read_labels if task == "multilabel" else _read_numbers
        ids = given[SAMPLE_ID].tolist()
        empty = -1 if task == "multilabel" else math.nan
        targets = np.full((len(table), len(columns)), empty)
        found = np.stack([read(given[column], ids, where) for column in columns], axis=1)
        targets = targets.astype(found.dtype)
    targets[~missing] = found
    return targets


def has_no_label(column: pd.Series) -> np.ndarray:
    """Which cells of a column of labels or values hold none, bool [N]."""
    return is_missing(column) | column.isin(NO_LABEL_TEXT).to_numpy(dtype=bool)


def describe_missing(task: str, targets: Mapping[str, int], samples: int) -> Message:
    """How many samples have no target, and what their cells hold, in one line."""
    what = "value" if task == "regression" else "label"
    seen = [Message("{} {}", text or Message("empty"), count) for text, count in targets.items()]
    return Message(f"samples without a {what}: {{}}, left out ({{}})", samples, seen)


def spread_texts(values: np.ndarray) -> list[str]:
    """Mean, standard deviation, minimum and maximum, with digits that the spread shows in."""
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
    column = table[columns[0]]
    values, names, excluded = number_classes(column, labels, where)
    missing = dict(Counter(map(str, column[(values < 0) & has_no_label(column)])))
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
    numbers = _read_numbers(column, sample_ids, where)
    if len(numbers) > 1 and (numbers == numbers[0]).all():
        raise CohortError(
            f"{where}: regression target {name!r} is {numbers[0]:g} in all {len(numbers)} samples; "
            "there is nothing to learn"
        )
    return numbers


def _read_numbers(column: pd.Series, sample_ids: Sequence[str], where: str) -> np.ndarray:
    name = str(column.name)
    return as_numbers(column, name, sample_ids, "regression target", "choose another task")


def in_order(labels: Sequence[str]) -> list[str]:
    """Sort names: as numbers where all are numbers, otherwise as text."""
    try:
        return sorted(labels, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(labels)


def number_classes(
    column: pd.Series, labels: Mapping[Any, int] | None, where: str
) -> tuple[np.ndarray, list[str], dict[str, int]]:
    """Number the labels, text [N]; None for ``labels`` makes each label a class.

    Of two the negative one is class 0, if numbers or a word such as ``control`` distinguish them.
    Returns class numbers with -1 for what is left out, int64 [N]; the classes' names (labels of one
    class joined by '+'); and the labels that are left out with their counts. CohortError where the
    mapping does not fit, fewer than two classes are left, or nothing says which of two is positive.
    """
    counts = Counter(map(str, column))
    present = [text for text in counts if text not in NO_LABEL_TEXT]
    if labels is None:
        numbers = {text: number for number, text in enumerate(_class_order(present, where))}
    else:
        numbers = _checked_mapping(labels, counts, where)
    used = sorted(set(numbers.values()))
    if len(used) < 2:
        kept = ", ".join(map(repr, numbers)) or "no label"
        raise CohortError(
            f"{where}: {kept} kept leaves {len(used)} class{'' if used else 'es'}, at least 2 are "
            f"needed (labels: {', '.join(present) or 'none'})"
        )
    if used != list(range(len(used))):
        raise CohortError(
            f"labels have the class numbers {', '.join(map(str, used))}; 0 to {len(used) - 1} "
            "without a gap was expected"
        )
    names = ["+".join(text for text, n in numbers.items() if n == number) for number in used]
    excluded: Counter[str] = Counter()
    for text, count in counts.items():
        if text not in numbers:
            excluded[MISSING_LABEL if text in NO_LABEL_TEXT else text] += count
    targets = np.array([numbers.get(text, -1) for text in column], dtype=np.int64)
    return targets, names, dict(excluded)


def _class_order(present: Sequence[str], where: str) -> list[str]:
    """Labels by class number; of two the positive one is the second, and is never guessed."""
    order = negative_first(present) if len(present) == 2 else in_order(present)
    if order is None:
        first, second = in_order(present)
        option = shlex.quote(labels_text([first, second]))
        raise CohortError(
            f"{where}: labels {first!r} and {second!r} do not say which is the positive class; "
            f"give it the number 1, as in --data.labels {option}"
        )
    return order


def _checked_mapping(
    labels: Mapping[Any, int], counts: Mapping[str, int], where: str
) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for key, number in labels.items():
        text = str(key).strip()
        if text in TRUTHS:  # a boolean, which tables spell in several ways
            text = next((name for name in counts if name.lower() == text.lower()), text)
        if text not in counts:
            choices = [name for name in counts if name not in NO_LABEL_TEXT]
            raise CohortError(f"{where}: label {text!r} does not occur{nearest(text, choices)}")
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise CohortError(f"label {text!r} has class {number!r}; a whole number was expected")
        numbers[text] = int(number)
    return numbers


def negative_first(labels: Sequence[str]) -> list[str] | None:
    """Put the negative one of two labels first; None where nothing distinguishes them.

    It is the smaller one of two numbers, or named by a word such as ``control``, ``healthy`` or
    ``wild type``; the alphabet does not decide.
    """
    orders = [list(labels), list(labels)[::-1]]
    with suppress(ValueError):
        for order in orders:
            if float(order[0]) < float(order[1]):
                return order
    found = [order for order in orders if _is_negative(*map(_plain, order))]
    return found[0] if len(found) == 1 else None


def labels_text(labels: Sequence[str]) -> str:
    """The value of ``data.labels`` that makes the first of two labels the positive class."""
    numbers = {label: 1 - number for number, label in enumerate(labels)}
    plain = yaml.safe_dump(
        numbers, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    ).strip()
    return json.dumps(numbers, ensure_ascii=False) if re.search(r"['\"?\\]", plain) else plain


def about_positive(task: str, class_names: Sequence[str]) -> Message:
    """The positive class, in a line for a person; empty for tasks other than binary."""
    if task != "binary" or len(class_names) != 2:
        return Message("")
    return Message(
        "positive class: {} (sensitivity, recall, precision, f1 and auprc are of it); negative "
        "class: {}",
        *reversed(class_names),
    )


def _plain(label: str) -> str:
    return " ".join(re.split(r"[\s_.,:;()/-]+", label.casefold())).strip() or label


def _is_negative(label: str, other: str) -> bool:
    if (label, other) in PAIRS:
        return True
    joined = label.replace(" ", "")
    if any(joined == word + other.replace(" ", "") for word in NEGATIONS):
        return True
    words = label.replace("wild type", "wildtype").split()
    known = [word in NEGATIVE_WORDS for word in words]
    return any(known) and all(k or w in BESIDE for k, w in zip(known, words, strict=True))


class TargetScaler:
    """Regression targets brought to mean 0 and standard deviation 1; fitted on training data."""

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
        return np.asarray((values - mean) / std, dtype=np.float32)

    def restore(self, values: Tensor) -> Tensor:
        """From standardised values, [N, T], to the columns' units, in double precision."""
        mean, std = self._fitted()
        return values.double() * torch.from_numpy(std) + torch.from_numpy(mean)

    def state_dict(self) -> dict[str, Any]:
        """Means and standard deviations, as plain lists."""
        mean, std = self._fitted()
        return {"mean": mean.tolist(), "std": std.tolist()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> TargetScaler:
        """A scaler as it was saved."""
        scaler = cls()
        scaler.load_state_dict(state)
        return scaler

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._mean = np.array(state["mean"], dtype=np.float64)
        self._std = np.array(state["std"], dtype=np.float64)

    def _fitted(self) -> tuple[np.ndarray, np.ndarray]:
        if self._mean is None or self._std is None:
            raise RuntimeError("TargetScaler: fit or load_state_dict comes first")
        return self._mean, self._std

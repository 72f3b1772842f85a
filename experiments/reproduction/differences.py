"""What differs between two runs' figures, predictions and weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from datasets.errors import UsageError, one_line
from experiments.run_files import RunFile

# In the order in which they are told; weights say nothing by themselves of how alike two runs are.
TABLES = (
    RunFile.PREDICTIONS,
    RunFile.VAL_PREDICTIONS,
    RunFile.BASELINE_PREDICTIONS["test"],
    RunFile.BASELINE_PREDICTIONS["val"],
)
# Columns that name a row; columns of numbers; what was predicted, which follows from probabilities.
KEYS = ("model", "sample_id")
PREDICTED, PROBABILITY = "prediction", "prob_"


@dataclass(frozen=True)
class Difference:
    """What a file of a run made again has that the packaged one has not.

    ``largest`` is the largest difference of two numbers, by the larger of 1 and the packaged one;
    ``where`` names it. ``changed`` classes or labels are predicted otherwise. ``other`` is what
    else differs, such as a missing row.
    """

    file: str
    count: int
    largest: float = 0.0
    where: str = ""
    changed: int = 0
    other: str = ""

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return self.largest == 0 and not self.changed and not self.other

    def told(self) -> str:
        """In one line."""
        if self.identical:
            return f"{self.file}: identical ({self.count:,} numbers)"
        parts = [f"differs by up to {self.largest:.2g} ({self.where})"] if self.largest else []
        parts += [f"{self.changed} predictions differ"] if self.changed else []
        return f"{self.file}: {'; '.join([*parts, self.other] if self.other else parts)}"


def compare_folders(packaged: Path, again: Path) -> list[Difference]:
    """Compare metrics, predictions and weights; the packaged ones come first."""
    found = [_compare_metrics(packaged, again)]
    for name in TABLES:
        if (packaged / name).is_file():
            found.append(_compare_tables(packaged, again, name))
    return [*found, _compare_weights(packaged, again)]


def _compare_metrics(packaged: Path, again: Path) -> Difference:
    before, now = (dict(_leaves(_read_json(of / RunFile.METRICS))) for of in (packaged, again))
    return _compare(RunFile.METRICS, before, now)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {one_line(error)}") from error


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Each number or text by the path to it; how long something took is none of it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not str(name).startswith("time/"):
                yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{key}.{number}")
    else:
        yield key, value


def _compare_tables(packaged: Path, again: Path, name: str) -> Difference:
    if not (again / name).is_file():
        return Difference(name, 0, other="it was not written again")
    tables = [pd.read_csv(of / name, dtype=str, keep_default_na=False) for of in (packaged, again)]
    before, now = (dict(_cells(table)) for table in tables)
    follow = [key for key in before if key.startswith(PREDICTED) and key in now]
    if not any(str(column).startswith(PROBABILITY) for column in tables[0]):
        follow = []  # the values of a regression
    changed = sum(before.pop(key) != now.pop(key) for key in follow)
    return replace(_compare(name, before, now), changed=changed)


def _cells(table: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """Each cell by its column and row; classes and names as text."""
    keys = [column for column in KEYS if column in table]
    for row in table.to_dict("records"):
        place = ", ".join(str(row[key]) for key in keys)
        for column, text in row.items():
            if column not in keys:
                numeric = str(column).startswith((PROBABILITY, f"{PREDICTED}_"))
                yield f"{column} of {place}", float(text or "nan") if numeric else text


def _compare_weights(packaged: Path, again: Path) -> Difference:
    name = RunFile.WEIGHTS
    before, now = load_file(packaged / name), load_file(again / name)
    shapes = [{key: tensor.shape for key, tensor in of.items()} for of in (before, now)]
    if shapes[0] != shapes[1]:
        return Difference(name, 0, other="the model has other weights")
    largest = {key: _largest_apart(tensor, now[key]) for key, tensor in before.items()}
    where = max(largest, key=lambda key: largest[key]) if largest else ""
    count = sum(tensor.size for tensor in before.values())
    return Difference(name, count, largest.get(where, 0.0), where)


def _largest_apart(before: np.ndarray, now: np.ndarray) -> float:
    """Infinite where a NaN or an infinite number stands in one of them only."""
    old, new = before.astype(float), now.astype(float)
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    apart = np.abs(np.subtract(old, new, out=np.zeros_like(old), where=~same))
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))


def _compare(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Difference:
    largest, where, count, others = 0.0, "", 0, []
    for key in dict.fromkeys([*before, *now]):
        if (key in before) != (key in now):
            others.append(f"{key} is in one of them only")
            continue
        old, new = before[key], now[key]
        if not (_is_number(old) and _is_number(new)):
            if old != new:
                others.append(f"{key}: {old}, here {new}")
            continue
        count += 1
        if old == new or (math.isnan(old) and math.isnan(new)):
            continue
        apart = abs(old - new) / max(1.0, abs(old))
        apart = math.inf if math.isnan(apart) else apart
        if apart > largest:
            largest, where = apart, key
    more = f", and {len(others) - 1} more" if len(others) > 1 else ""
    return Difference(name, count, largest, where, other=f"{others[0]}{more}" if others else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

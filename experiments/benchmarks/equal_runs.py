"""What differs between the folders of two runs that should have ended alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.checkpointing import load_checkpoint
from engine.reporting import read_log
from experiments.run_files import RunFile

# What only a run that was cut and continued has to say.
OF_RESUMING = ("run_started", "run_resumed", "resumed", "nothing_to_train")
TIMES = ("time", "seconds")
# How long the log is depends on the rows above; everything else that is saved has to be equal.
OF_THE_LOG = "run_log"
SAME_BYTES = (
    "metrics.csv",
    "metrics.json",
    "predictions.csv",
    "splits.csv",
    RunFile.WEIGHTS,
)
# Written while the run goes, or for a run that was cut only; named by time or by accident.
NOT_COMPARED = (
    "events",
    "log.discarded.jsonl",
    "environment.json",
    "config.former-*.yaml",
    "*.zip",  # named as the run, and holding its environment.json
)


@dataclass
class Differences:
    """What was compared and what of it differs, by name.

    Attributes:
        compared: Tensors in all checkpoints.
        tensors: Those that differ, as ``last.pt: model.head.weight``.
        values: Numbers and words saved in checkpoints that differ.
        rows: Lines of the logs that one run has and the other has not, or not there.
        files: Tables and weights whose bytes differ, and files that one run lacks.
    """

    compared: int = 0
    tensors: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        """Everything that differs, in a line each."""
        yield from (*self.tensors, *self.values, *self.rows, *self.files)


def compare_runs(straight: Path, other: Path) -> Differences:
    """Compare checkpoints, logs and tables of two finished runs.

    Args:
        straight: The folder of the run that was never cut.
        other: The folder of the other run.
    """
    found = Differences()
    names = [_files(run) for run in (straight, other)]
    found.files += [f"{name} is in one run only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        if name.endswith(".pt"):
            states = [_states(run / name) for run in (straight, other)]
            _compare(states[0], states[1], f"{Path(name).name}: ", found)
        elif name in SAME_BYTES and (straight / name).read_bytes() != (other / name).read_bytes():
            found.files.append(f"{name} differs")
    _compare_rows(log_rows(straight), log_rows(other), found)
    return found


def log_rows(run_dir: Path) -> list[dict[str, Any]]:
    """The log without times, and without what only a resumed run has."""
    return [
        {key: value for key, value in row.items() if key not in TIMES}
        for row in read_log(run_dir / "log.jsonl")
        if row["event"] not in OF_RESUMING
    ]


def _states(path: Path) -> dict[str, Any]:
    if path.name == RunFile.PREPROCESSING:
        fitted: dict[str, Any] = torch.load(path, weights_only=True)
        return fitted
    states: dict[str, Any] = load_checkpoint(path)["states"]
    states.pop(OF_THE_LOG, None)
    return states


def _files(run_dir: Path) -> set[str]:
    left_out = {path for pattern in NOT_COMPARED for path in run_dir.glob(pattern)}
    return {
        path.relative_to(run_dir).as_posix()
        for path in run_dir.rglob("*")
        if path.is_file() and not left_out & {path, *path.parents}
    }


def _compare(a: Any, b: Any, where: str, found: Differences) -> None:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        found.compared += 1
        if a.dtype != b.dtype or not torch.equal(a, b):
            found.tensors.append(where)
    elif isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys((*a, *b)):
            name = f"{where}{key}" if where.endswith(" ") else f"{where}.{key}"
            if key in a and key in b:
                _compare(a[key], b[key], name, found)
            else:
                found.values.append(f"{name} is in one run only")
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            _compare(x, y, f"{where}.{number}", found)
    elif type(a) is not type(b) or (a != b and not (a != a and b != b)):  # NaN equals NaN here
        found.values.append(f"{where}: {a} and {b}")


def _compare_rows(
    straight: list[dict[str, Any]], other: list[dict[str, Any]], found: Differences
) -> None:
    for number in range(max(len(straight), len(other))):
        rows = [rows[number] if number < len(rows) else None for rows in (straight, other)]
        if rows[0] != rows[1]:
            found.rows.append(f"log row {number}: {rows[0]} and {rows[1]}")

"""Tables of a run's metrics, from the rows of its log."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.errors import file_errors
from datasets.files import write_whole
from engine.metrics import LAST_EPOCH, TIE_BREAK, Monitor

# Events of the rows in the tables.
TABLED = ("epoch", "test_completed")
# Progress of the training.
PLACE = ("epoch", "iteration", "optimizer_step")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, oldest first; an incomplete line is skipped."""
    with file_errors(f"cannot read the log {path}"):
        lines = path.read_bytes().splitlines()
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "event" in row:
            rows.append(row)
    return rows


def write_metrics_csv(log: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write one row per epoch; a metric that is undefined or not measured is an empty cell."""
    epochs = [row for row in log if row["event"] == "epoch"]
    names = list(dict.fromkeys(name for row in epochs for name in row["metrics"]))
    table = io.StringIO()
    writer = csv.DictWriter(table, [*PLACE, *names], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: row[key] for key in PLACE} | row["metrics"] for row in epochs)
    write_text(table.getvalue(), path)


def write_metrics_json(
    log: Sequence[Mapping[str, Any]], path: Path, monitor: str | None, mode: str | None = None
) -> None:
    """Write the best epoch, the last epoch and the last test, each null if there is none.

    ``monitor`` selects the best; of equals that with the lower ``val/loss``, then the earliest.
    """
    epochs = [row for row in log if row["event"] == "epoch"]
    tests = [row for row in log if row["event"] == "test_completed"]
    best: Mapping[str, Any] | None = None
    if monitor is not None:
        judge = Monitor(monitor, mode, "run_log")
        best_value: tuple[float, float | None] | None = None
        mode = judge.mode
        for row in epochs:
            value = row["epoch"] if monitor == LAST_EPOCH else row["metrics"].get(monitor)
            loss = row["metrics"].get(TIE_BREAK)
            if value is not None and judge.is_better_epoch(float(value), loss, best_value):
                best, best_value = row, (float(value), loss)
    summary: dict[str, Any] = {"monitor": monitor, "mode": mode, "best": None, "last": None}
    for name, epoch in (("best", best), ("last", epochs[-1] if epochs else None)):
        if epoch is not None:
            summary[name] = {key: epoch[key] for key in (*PLACE, "metrics")}
    summary["test"] = None
    if tests:
        summary["test"] = {k: v for k, v in tests[-1].items() if k not in ("event", "time")}
    write_text(json.dumps(summary, indent=2) + "\n", path)


def as_json(value: Any) -> Any:
    """A value with NaN as null, infinity and other types as text."""
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def write_text(text: str, path: Path) -> None:
    """Write a page or table, which can be made again, as a whole, with its folder."""
    with file_errors(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(text.encode(), path.parent, path.name, durable=False)

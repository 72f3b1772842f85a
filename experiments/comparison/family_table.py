"""The table of a comparison of model families, from the files of their runs."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from engine.reporting import figure_text
from experiments.run_files import METRICS_NAME, read_cost, read_metric


@dataclass(frozen=True)
class Row:
    """One finished run.

    Attributes:
        family: Of the model.
        seed: Of the run and its split.
        val: The monitored metric of the best epoch.
        test: The same metric on the test side.
        parameters: Numbers that training can move.
        seconds: Spent in epochs.
    """

    family: str
    seed: int
    val: float
    test: float
    parameters: int
    seconds: float


@dataclass(frozen=True)
class Table:
    """All runs, and by what they are judged.

    Attributes:
        name: Of the configuration.
        metric: The monitored metric.
        mode: ``max`` where larger is better, else ``min``.
        rows: One a run.
    """

    name: str
    metric: str
    mode: str
    rows: list[Row]

    def markdown(self) -> str:
        """A row a family, the best on validation first."""
        families = sorted(
            dict.fromkeys(row.family for row in self.rows),
            key=lambda family: self._rank(self._median(family, "val")),
        )
        seeds = sorted({row.seed for row in self.rows})
        head = [
            "family",
            "parameters",
            f"validation {self.metric}, median",
            f"test {self.metric}, median",
            "test, mean",
            *(f"test, seed {seed}" for seed in seeds),
            "seconds a run",
        ]
        lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
        for family in families:
            own = {row.seed: row for row in self.rows if row.family == family}
            tests = [own[seed].test if seed in own else math.nan for seed in seeds]
            cells = [
                family,
                f"{max(row.parameters for row in own.values()):,}",
                figure_text(self._median(family, "val")),
                figure_text(self._median(family, "test")),
                figure_text(statistics.fmean(tests)),
                *map(figure_text, tests),
                f"{statistics.median(row.seconds for row in own.values()):.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        best = {
            side: min(families, key=lambda family: self._rank(self._median(family, side)))
            for side in ("val", "test")
        }
        verdict = (
            f"By the median over {len(seeds)} seed{'s' * (len(seeds) > 1)}, "
            f"{best['val']} is the best on validation"
            + (" and on test." if best["val"] == best["test"] else f", {best['test']} on test.")
        )
        return "\n".join([f"# Families on {self.name}", "", *lines, "", verdict, ""])

    def _median(self, family: str, side: str) -> float:
        values = [getattr(row, side) for row in self.rows if row.family == family]
        return math.nan if any(map(math.isnan, values)) else statistics.median(values)

    def _rank(self, value: float) -> float:
        """A number that is smaller for what is better; the undefined is the worst."""
        if math.isnan(value):
            return math.inf
        return -value if self.mode == "max" else value


def read_row(folder: Path, family: str, seed: int) -> tuple[Row, str, str]:
    """What a finished run's own files say of it, and its monitored metric and mode.

    Args:
        folder: The run's.
        family: Of its model.
        seed: Of the run.
    """
    metrics = json.loads((folder / METRICS_NAME).read_text("utf-8"))
    monitor: str = metrics["monitor"]
    metric = monitor.removeprefix("val/")
    parameters, seconds = read_cost(folder)
    row = Row(
        family,
        seed,
        read_metric(metrics["best"], monitor),
        read_metric(metrics["test"], metric),
        parameters or 0,
        seconds,
    )
    return row, metric, metrics["mode"]

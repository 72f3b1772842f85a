"""A comparison of finished runs as text, and the settings that differ."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets.cohort import about_positive
from engine.reporting import TOO_FEW_TEXT, p_text, with_bounds
from engine.statistics import DeLong, Interval, McNemar
from experiments.config import shorten

if TYPE_CHECKING:
    from experiments.comparison.run_comparison import RunComparison
    from experiments.run_files import FinishedRun

# Runs are told apart by name; where they lie is no difference.
NAMES = ("exp_name", "runs_dir")
SURROUNDINGS = ("commit", "dirty", "python", "packages", "data")
NOT_THERE = "-"
# As many digits of a commit or a checksum as tell two of them apart.
DIGITS, SHORTEST_DIGEST = 12, 40

Differences = dict[str, list[str]]


def differing_settings(runs: Sequence[FinishedRun]) -> Differences:
    """The keys of the configurations that are not the same in all runs.

    Dotted key -> its value in each run as YAML has it, ``-`` where a run has no such key.
    """
    return _differing([_flat({k: v for k, v in r.config.items() if k not in NAMES}) for r in runs])


def differing_surroundings(runs: Sequence[FinishedRun]) -> Differences:
    """The same of the code, the versions and the checksums of the data."""
    surroundings = ({key: run.environment.get(key) for key in SURROUNDINGS} for run in runs)
    found = _differing([_flat(values) for values in surroundings])
    return {key: [_short(value) for value in values] for key, values in found.items()}


def _differing(flat: Sequence[Mapping[str, str]]) -> Differences:
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = {key: [values.get(key, NOT_THERE) for values in flat] for key in keys}
    return {key: row for key, row in rows.items() if len(set(row)) > 1}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested sections as dotted keys; a list is one value."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            flat[f"{prefix}{key}"] = text
    return flat


def _short(value: str) -> str:
    is_digest = len(value) >= SHORTEST_DIGEST and all(c in "0123456789abcdef" for c in value)
    return value[:DIGITS] if is_digest else value


UNKNOWN_TEXT = "unknown"
# Beside the names of the rows, so that a line stays as long as a terminal is wide.
RUNS_A_BLOCK, WIDEST_CELL, GAP = 3, 34, "  "

Row = tuple[str, Sequence[str]]


def comparison_text(comparison: RunComparison) -> str:
    """All of it, without colours."""
    runs = comparison.runs
    parts = [
        lead(comparison),
        *(f"warning: {line}" for line in comparison.warnings),
        *comparison.notes,
        "",
        _columns([run.name for run in runs], [*_figures(comparison), *_tests(comparison)]),
    ]
    for title, found in (
        ("differing settings", differing_settings(runs)),
        ("differing environment", differing_surroundings(runs)),
    ):
        if found:
            parts += ["", title, _columns([run.name for run in runs], _settings(found))]
    return "\n".join(parts)


def lead(comparison: RunComparison) -> str:
    """The comparison in a few sentences, with the positive class of two."""
    first = comparison.runs[0]
    about = about_positive(first.outputs.task, first.class_names)
    positive = f" {about[:1].upper()}{about[1:]}." if about else ""
    return (
        f"{len(comparison.runs)} runs on their {comparison.samples} shared test samples. "
        f"Differences are relative to {comparison.runs[0].name}, named first; 95% intervals in "
        f"brackets.{positive}"
    )


def about_rows(comparison: RunComparison) -> list[Row]:
    """Rows on each run: its model, cost and validation metric."""
    runs = comparison.runs
    rows: list[Row] = [
        ("model", [run.model for run in runs]),
        ("parameters", [_or_unknown(run.parameters, ",") for run in runs]),
        ("epochs", [str(run.epochs) for run in runs]),
        ("seconds", [_or_unknown(run.seconds, ".1f") for run in runs]),
    ]
    if comparison.monitor is not None:
        best = [with_bounds(Interval(run.validation)) for run in runs]
        rows.append((f"best {comparison.monitor}", best))
    return rows


def metric_row(comparison: RunComparison, metric: str) -> Row:
    """A metric of each run on the shared test samples."""
    return metric, [with_bounds(figures[metric]) for figures in comparison.figures]


def p_or_too_few(test: DeLong | McNemar, p_value: float) -> str:
    """A test's p-value, or that there are too few samples for one.

    Example:
        >>> p_or_too_few(DeLong(0.9, 0.8, 0.1), math.nan), p_or_too_few(DeLong(), math.nan)
        ('too few samples', 'undefined')
    """
    areas_known = isinstance(test, DeLong) and not math.isnan(test.difference)
    return TOO_FEW_TEXT if areas_known and math.isnan(p_value) else p_text(p_value)


def _or_unknown(number: float | None, form: str) -> str:
    return UNKNOWN_TEXT if number is None or math.isnan(number) else f"{number:{form}}"


def _figures(comparison: RunComparison) -> list[Row]:
    rows = about_rows(comparison)
    for name in comparison.metrics:
        apart = [with_bounds(found[name], "+") for found in comparison.differences]
        rows += [metric_row(comparison, name), ("  difference", ["", *apart])]
    return rows


def _tests(comparison: RunComparison) -> list[Row]:
    tests = comparison.tests
    rows: list[Row] = []
    several = len(tests) > 1
    for title, of_tests in (
        ("DeLong", [(t.delong, t.delong_holm) for t in tests]),
        ("McNemar", [(t.mcnemar, t.mcnemar_holm) for t in tests]),
    ):
        made = [(test, corrected) for test, corrected in of_tests if test is not None]
        if made:
            rows.append(
                (f"{title} p", ["", *(p_or_too_few(test, test.p_value) for test, _ in made)])
            )
        if made and several:
            rows.append(("  Holm", ["", *(p_or_too_few(*both) for both in made)]))
    return rows


def _settings(found: Differences) -> list[Row]:
    return [(key, [shorten(value, WIDEST_CELL) for value in row]) for key, row in found.items()]


def _columns(names: Sequence[str], rows: Sequence[Row]) -> str:
    """Rows under the runs' names, so many runs beside each other as a line holds."""
    blocks = []
    for start in range(0, len(names), RUNS_A_BLOCK):
        chosen = range(start, min(start + RUNS_A_BLOCK, len(names)))
        lines = [["", *(names[n] for n in chosen)]]
        lines += [[title, *(cells[n] for n in chosen)] for title, cells in rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        blocks.append(
            "\n".join(
                GAP.join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
                for line in lines
            )
        )
    return "\n\n".join(blocks)

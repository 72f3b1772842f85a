"""A comparison of runs: as text for a terminal, and its files, a table and pages of figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from datasets.errors import file_errors
from datasets.files import write_whole
from datasets.messages import sentences
from engine.metrics import EpochOutputs, better_when
from engine.reporting import TOO_FEW_TEXT, p_text, with_bounds
from engine.statistics import TOO_FEW, DeLong, Interval, McNemar, holm
from experiments.analysis import about_positive_class
from experiments.comparison.comparison_figures import (
    areas,
    metric_bars,
    metric_differences,
    overlaid_predictions,
    precision_recall_curves,
    roc_curves,
)
from experiments.config import shorten
from experiments.report import write_images_of
from experiments.report.figures import Section, write_figure_page

if TYPE_CHECKING:
    from experiments.comparison.run_comparison import RunComparison
    from experiments.run_files import FinishedRun

TABLE_NAME, PAGE_NAME = "model_comparison.csv", "model_comparison.html"
CURVES_NAME = "roc_comparison.html"


def write_comparison_files(
    folder: Path,
    table: pd.DataFrame,
    about: str,
    sections: Sequence[Section],
    outputs: Mapping[str, EpochOutputs],
    names: Sequence[str],
) -> tuple[list[Path], str | None]:
    """Write ``model_comparison.csv``, ``model_comparison.html`` and ``roc_comparison.html``.

    All ``outputs`` are of the same samples. Returns the table and the pages (a regression has no
    curves, its predictions are a section of the page); and in one line why there are no images.
    """
    with file_errors(f"cannot write to {folder}"):
        write_whole(table.to_csv(index=False).encode(), folder, TABLE_NAME)
    ranked = next(iter(outputs.values())).task != "regression"
    if not ranked:
        figure = overlaid_predictions(outputs, names)
        sections = [*sections, Section("predictions", "Predicted against true", figure)]
    page = write_figure_page(folder / PAGE_NAME, "Model comparison", about, sections)
    pages = {page: sections}
    if ranked:
        curves = [
            Section("roc", "ROC", roc_curves(outputs, names)),
            Section("pr", "Precision and recall", precision_recall_curves(outputs, names)),
            Section("areas", "Areas under the curves", table=areas(outputs, names)),
        ]
        path = folder / CURVES_NAME
        pages[write_figure_page(path, "ROC comparison", about, curves)] = curves
    return [folder / TABLE_NAME, *pages], write_images_of(pages)


def write_run_comparison(comparison: RunComparison, folder: Path) -> tuple[list[Path], str | None]:
    """:func:`write_comparison_files` of finished runs."""
    return write_comparison_files(
        folder,
        comparison_table(comparison),
        lead(comparison),
        _sections(comparison),
        {run.name: run.outputs for run in comparison.runs},
        comparison.class_names,
    )


def comparison_table(comparison: RunComparison) -> pd.DataFrame:
    """One row per run; what the first run has no value of is empty.

    For each metric its value, its bounds ``_low`` and ``_high``, and ``_difference`` with its own;
    p-values (``delong_p``, ``mcnemar_p``), and both corrected, ``_holm``.
    """
    rows = []
    for number, run in enumerate(comparison.runs):
        row: dict[str, Any] = {
            "run": run.name,
            "model": run.model,
            "parameters": run.parameters,
            "epochs": run.epochs,
            "seconds": run.seconds,
            "samples": comparison.samples,
        }
        if comparison.monitor is not None:
            row[comparison.monitor] = run.validation
        for name in comparison.metrics:
            found = {name: comparison.figures[number][name]}
            if number:
                found[f"{name}_difference"] = comparison.differences[number - 1][name]
            for column, figure in found.items():
                bounds = {f"{column}_low": figure.low, f"{column}_high": figure.high}
                row |= {column: figure.value, **bounds}
        tested: dict[str, Sequence[DeLong | McNemar]] = {
            "delong_p": comparison.delong,
            "mcnemar_p": comparison.mcnemar,
        }
        for name, tests in tested.items():
            if number and tests:
                p_values = [test.p_value for test in tests]
                row |= {name: p_values[number - 1], f"{name}_holm": holm(p_values)[number - 1]}
        rows.append(row)
    # The second run's row has all columns, in their order.
    table = pd.DataFrame(rows, columns=list(rows[1]))
    return table.astype({"parameters": "Int64"})  # whole, also where some are unknown


def _sections(comparison: RunComparison) -> list[Section]:
    runs, metrics = comparison.runs, comparison.metrics
    names = [run.name for run in runs]
    figures = {metric: [found[metric] for found in comparison.figures] for metric in metrics}
    apart = {metric: [found[metric] for found in comparison.differences] for metric in metrics}
    rows = [*about_rows(comparison), *(metric_row(comparison, name) for name in metrics)]
    tested = [["", *names], *([title, *cells] for title, cells in rows)]
    about_differences = (
        f"Each run minus {names[0]}. In brackets 95% intervals: paired bootstrap, "
        f"{comparison.resamples} resamples of the {comparison.groups} groups, not corrected for "
        "the number of runs."
    )
    sections = [
        Section("warnings", "Warning", text=" ".join(comparison.warnings)),
        Section("notes", "Notes", text=" ".join(comparison.notes)),
        Section("figures", "Test metrics", metric_bars(names, figures), table=tested),
        Section(
            "differences",
            f"Differences from {names[0]}",
            metric_differences(names, apart),
            text=about_differences,
            table=_differences(comparison),
        ),
        _paired_tests(comparison),
        _settings("settings", "Differing settings", names, differing_settings(runs)),
        _settings("surroundings", "Differing environment", names, differing_surroundings(runs)),
    ]
    return [section for section in sections if section.text or section.table]


def _differences(comparison: RunComparison) -> list[list[str]]:
    rows = [["metric", "better", *(run.name for run in comparison.runs[1:])]]
    for name in comparison.metrics:
        custom = name in comparison.runs[0].outputs.custom  # which way is better is not known
        mode = None if custom else better_when(name)
        better = {"max": "higher", "min": "lower", None: ""}[mode]
        found = (with_bounds(of_run[name], "+") for of_run in comparison.differences)
        rows.append([name, better, *found])
    return rows


def _paired_tests(comparison: RunComparison) -> Section:
    """The tests of each run against the first; empty unless of classes."""
    heading, delong, mcnemar = "Paired tests", comparison.delong, comparison.mcnemar
    if not mcnemar:
        return Section("tests", heading)
    first = comparison.runs[0].name
    about = []
    columns: dict[str, list[str]] = {"run": [run.name for run in comparison.runs[1:]]}
    if delong:
        about.append(f"DeLong's test (1988): equal AUROC of a run and {first}.")
        columns["AUROC, difference"] = []
        for test in delong:
            method = TOO_FEW if math.isnan(test.p_value) else ""
            found = Interval(test.difference, test.low, test.high, method=method)
            columns["AUROC, difference"].append(with_bounds(found, "+"))
        columns |= _p_texts("DeLong", delong)
    about.append(
        "McNemar's exact test (1947): equal accuracy, from the samples that only one of the two "
        "predicts correctly."
    )
    columns["only this run is right"] = [str(test.only_a) for test in mcnemar]
    columns[f"only {first} is right"] = [str(test.only_b) for test in mcnemar]
    columns |= _p_texts("McNemar", mcnemar)
    if len(mcnemar) > 1:
        about.append(
            f"Each p-value is followed by the one corrected for {len(mcnemar)} runs (Holm 1979), "
            "separately for each test."
        )
    table = [list(columns), *(list(row) for row in zip(*columns.values(), strict=True))]
    return Section("tests", heading, text=" ".join(about), table=table)


def _p_texts(name: str, tests: Sequence[DeLong | McNemar]) -> dict[str, list[str]]:
    """A test's p-values, and of several runs those corrected for their number."""
    p_values = [test.p_value for test in tests]
    titles = {f"{name} p": p_values} if tests else {}
    if len(tests) > 1:
        titles[f"{name} p, Holm"] = holm(p_values)
    return {title: list(map(p_or_too_few, tests, values)) for title, values in titles.items()}


def _settings(name: str, heading: str, runs: Sequence[str], found: Differences) -> Section:
    if not found:
        return Section(name, heading, text="None.")
    return Section(name, heading, table=[["key", *runs], *([k, *row] for k, row in found.items())])


# Runs are told apart by name; where they lie is no difference.
NAMES = ("exp_name", "runs_dir")
SURROUNDINGS = ("commit", "dirty", "python", "packages", "data")
NOT_THERE = "-"
# As many digits of a commit or a checksum as tell two of them apart.
DIGITS, SHORTEST_DIGEST = 12, 40

Differences = dict[str, list[str]]


def differing_settings(runs: Sequence[FinishedRun]) -> Differences:
    """Dotted keys that are not the same in all runs -> their values, ``-`` for no such key."""
    return _differing([_flat({k: v for k, v in r.config.items() if k not in NAMES}) for r in runs])


def differing_surroundings(runs: Sequence[FinishedRun]) -> Differences:
    """The same of the code, the versions and the checksums of the data."""
    surroundings = ({key: run.environment.get(key) for key in SURROUNDINGS} for run in runs)
    found = _differing([_flat(values) for values in surroundings])
    return {key: list(map(_short, values)) for key, values in found.items()}


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
    names = [run.name for run in comparison.runs]
    rows = about_rows(comparison)
    for name in comparison.metrics:
        apart = [with_bounds(found[name], "+") for found in comparison.differences]
        rows += [metric_row(comparison, name), ("  difference", ["", *apart])]
    tests = _p_texts("DeLong", comparison.delong) | _p_texts("McNemar", comparison.mcnemar)
    rows += [("  Holm" if "Holm" in n else n, ["", *cells]) for n, cells in tests.items()]
    parts = [
        lead(comparison),
        *(f"warning: {line}" for line in comparison.warnings),
        *comparison.notes,
        "",
        _columns(names, rows),
    ]
    for title, found in (
        ("differing settings", differing_settings(comparison.runs)),
        ("differing environment", differing_surroundings(comparison.runs)),
    ):
        if found:
            short = [(k, [shorten(v, WIDEST_CELL) for v in row]) for k, row in found.items()]
            parts += ["", title, _columns(names, short)]
    return "\n".join(parts)


def lead(comparison: RunComparison) -> str:
    """The comparison in a few sentences, with the positive class of two."""
    return sentences(
        f"{len(comparison.runs)} runs on their {comparison.samples} shared test samples.",
        f"Differences are relative to {comparison.runs[0].name}, named first; 95% intervals in "
        "brackets.",
        about_positive_class(comparison.task, comparison.class_names),
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
    """A test's p-value ("undefined" where NaN), or "too few samples" for one."""
    areas_known = isinstance(test, DeLong) and not math.isnan(test.difference)
    return TOO_FEW_TEXT if areas_known and math.isnan(p_value) else p_text(p_value)


def _or_unknown(number: float | None, form: str) -> str:
    return UNKNOWN_TEXT if number is None or math.isnan(number) else f"{number:{form}}"


def _columns(names: Sequence[str], rows: Sequence[Row]) -> str:
    """Rows under the runs' names, so many runs beside each other as a line holds."""
    blocks = []
    for start in range(0, len(names), RUNS_A_BLOCK):
        chosen = range(start, min(start + RUNS_A_BLOCK, len(names)))
        lines = [["", *(names[n] for n in chosen)]]
        lines += [[title, *(cells[n] for n in chosen)] for title, cells in rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = (map(str.ljust, line, widths) for line in lines)
        blocks.append("\n".join(GAP.join(cells).rstrip() for cells in padded))
    return "\n\n".join(blocks)

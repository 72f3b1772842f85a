"""The files of a comparison: a table, a page of figures, a page of overlaid curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from datasets.errors import UsageError
from datasets.files import write_whole
from engine.metrics import EpochOutputs, better_when
from engine.reporting import p_text, with_bounds
from engine.statistics import TOO_FEW, Interval
from experiments.comparison.comparison_figures import (
    areas,
    metric_bars,
    metric_differences,
    overlaid_predictions,
    precision_recall_curves,
    roc_curves,
)
from experiments.comparison.text import (
    Differences,
    about_rows,
    differing_settings,
    differing_surroundings,
    lead,
    metric_row,
    p_or_too_few,
)
from experiments.report import write_images_of
from experiments.report.figures import Section, write_figure_page

if TYPE_CHECKING:
    from experiments.comparison.run_comparison import RunComparison

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

    Beside each page its figures go into a ``.png``, where kaleido and a Chrome are there. All
    ``outputs`` are of the same samples. Returns the table and the pages (a regression has no
    curves, its predictions are a section of the page); and in one line why there are no images.
    """
    try:
        write_whole(table.to_csv(index=False).encode(), folder, TABLE_NAME)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
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
    of classes ``mcnemar_p``, of two classes ``delong_p``, and both corrected, ``_holm``.
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
                row |= {column: figure.value}
                row |= {f"{column}_low": figure.low, f"{column}_high": figure.high}
        if number:
            tests = comparison.tests[number - 1]
            if tests.delong is not None:
                row |= {"delong_p": tests.delong.p_value, "delong_p_holm": tests.delong_holm}
            if tests.mcnemar is not None:
                row |= {"mcnemar_p": tests.mcnemar.p_value, "mcnemar_p_holm": tests.mcnemar_holm}
        rows.append(row)
    # The second run's row has all columns, in their order.
    table = pd.DataFrame(rows, columns=list(rows[1]))
    return table.astype({"parameters": "Int64"})  # whole, also where some are unknown


# -- the page ---------------------------------------------------------------------------------


def _sections(comparison: RunComparison) -> list[Section]:
    runs, metrics = comparison.runs, comparison.metrics
    names = [run.name for run in runs]
    figures = {metric: [found[metric] for found in comparison.figures] for metric in metrics}
    apart = {metric: [found[metric] for found in comparison.differences] for metric in metrics}
    sections = [
        Section("warnings", "Warning", text=" ".join(comparison.warnings)),
        Section("notes", "Notes", text=" ".join(comparison.notes)),
        Section("figures", "Test metrics", metric_bars(names, figures), table=_figures(comparison)),
        Section(
            "differences",
            f"Differences from {names[0]}",
            metric_differences(names, apart),
            text=_about_differences(comparison),
            table=_differences(comparison),
        ),
        Section("tests", "Paired tests", text=_about_tests(comparison), table=_tests(comparison)),
        _settings("settings", "Differing settings", names, differing_settings(runs)),
        _settings("surroundings", "Differing environment", names, differing_surroundings(runs)),
    ]
    return [section for section in sections if section.text or section.table]


def _figures(comparison: RunComparison) -> list[list[str]]:
    rows = [*about_rows(comparison), *(metric_row(comparison, n) for n in comparison.metrics)]
    return [["", *(run.name for run in comparison.runs)], *([name, *row] for name, row in rows)]


def _about_differences(comparison: RunComparison) -> str:
    return (
        f"Each run minus {comparison.runs[0].name}. In brackets 95% intervals: paired bootstrap, "
        f"{comparison.resamples} resamples of the {comparison.groups} groups, not corrected for "
        "the number of runs."
    )


def _differences(comparison: RunComparison) -> list[list[str]]:
    rows = [["metric", "better", *(run.name for run in comparison.runs[1:])]]
    for name in comparison.metrics:
        custom = name in comparison.runs[0].outputs.custom  # which way is better is not known
        mode = None if custom else better_when(name)
        better = {"max": "higher", "min": "lower", None: ""}[mode]
        found = (with_bounds(of_run[name], "+") for of_run in comparison.differences)
        rows.append([name, better, *found])
    return rows


def _about_tests(comparison: RunComparison) -> str:
    if comparison.tests[0].mcnemar is None:
        return ""
    first, others = comparison.runs[0].name, len(comparison.tests)
    sentences = []
    if comparison.tests[0].delong is not None:
        sentences.append(f"DeLong's test (1988): equal AUROC of a run and {first}.")
    sentences.append(
        "McNemar's exact test (1947): equal accuracy, from the samples that only one of the two "
        "predicts correctly."
    )
    if others > 1:
        sentences.append(
            f"Each p-value is followed by the one corrected for {others} runs (Holm 1979), "
            "separately for each test."
        )
    return " ".join(sentences)


def _tests(comparison: RunComparison) -> list[list[str]] | None:
    first, tests = comparison.runs[0].name, comparison.tests
    if tests[0].mcnemar is None:
        return None
    several = len(tests) > 1
    rows = []
    for run, found in zip(comparison.runs[1:], tests, strict=True):
        row = {"run": run.name}
        if found.delong is not None:
            area = found.delong
            method = TOO_FEW if math.isnan(area.p_value) else ""
            apart = Interval(area.difference, area.low, area.high, method=method)
            row["AUROC, difference"] = with_bounds(apart, "+")
            row["DeLong p"] = p_or_too_few(area, area.p_value)
            if several:
                row["DeLong p, Holm"] = p_or_too_few(area, found.delong_holm)
        if found.mcnemar is not None:
            row["only this run is right"] = str(found.mcnemar.only_a)
            row[f"only {first} is right"] = str(found.mcnemar.only_b)
            row["McNemar p"] = p_text(found.mcnemar.p_value)
            if several:
                row["McNemar p, Holm"] = p_text(found.mcnemar_holm)
        rows.append(row)
    return [list(rows[0]), *(list(row.values()) for row in rows)]


def _settings(name: str, heading: str, runs: Sequence[str], found: Differences) -> Section:
    if not found:
        return Section(name, heading, text="None.")
    return Section(name, heading, table=[["key", *runs], *([k, *row] for k, row in found.items())])

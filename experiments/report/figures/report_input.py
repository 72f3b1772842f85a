"""The input of the figures: tested samples, their names and their analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from datasets.cohort import SAMPLE_ID, UNNAMED_AXIS, Cohort, TargetScaler, read_units
from experiments.report.words import MOST_VALUES

if TYPE_CHECKING:
    from engine.metrics import EpochOutputs
    from experiments.analysis import Outcome, TestAnalysis
    from experiments.report.figures.figure_page import Section

# Further columns by which points can be coloured: so many, and of each value so many samples on
# average, so that it is no mere number.
MOST_COLUMNS, FEWEST_A_VALUE = 6, 3
GROUP = "group"
AXIS = "axis"


@dataclass(frozen=True)
class ExplainedInputs:
    """The explained samples as the model was given them.

    ``scans`` are the mean of each sample's scans, [N, L], ``covariates`` [N, D]. ``spectrum``, to
    be drawn, is the samples' mean, [L]; ``intensity`` names its axis.
    """

    scans: np.ndarray
    covariates: np.ndarray
    spectrum: np.ndarray
    intensity: str = "intensity"


@dataclass(frozen=True)
class ReportInput:
    """Tested samples, of a run or of a model at hand.

    ``classes`` name the C classes, labels or targets, ``covariates`` the D features of covariates
    (None for their numbers), where bins of one covariate have one name; ``axis`` has the place of
    each point of a scan, [L], None for their numbers; ``columns`` further properties (plates), one
    value per sample. ``inputs`` is None where nothing was explained. ``scale``, [C], is one unit of
    each output in the unit of what is predicted: the standard deviation of a regression's targets;
    None for scores as they are. ``drawn`` are the sections so far, by part of the page.
    """

    outputs: EpochOutputs
    classes: Sequence[str]
    findings: TestAnalysis
    covariates: Sequence[str] | None = None
    axis: np.ndarray | None = None
    axis_name: str = UNNAMED_AXIS
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inputs: ExplainedInputs | None = None
    scale: Sequence[float] | None = None
    drawn: dict[str, list[Section]] = field(default_factory=dict, init=False, repr=False)

    def in_units_of(self, scaler: TargetScaler | None) -> ReportInput:
        """The same with attributions and heads in the unit of a regression's targets."""
        if scaler is None:
            return self
        findings, scale = self.findings, scaler.state_dict()["std"]
        if findings.heads is not None:
            spectra, tabular = (scaler.restore(head) for head in findings.heads)
            findings = replace(findings, heads=(spectra, tabular))
        return replace(self, findings=findings, scale=scale)


def examine(outcome: Outcome) -> ReportInput:
    """The report's input of a run's test set."""
    cohort, data, findings = outcome.data.cohort, outcome.data, outcome.findings
    row_of = {name: row for row, name in enumerate(cohort.sample_ids)}
    outputs, inputs = outcome.outputs["test"], None
    if findings.explained:
        inputs = _inputs(outcome, [row_of[name] for name in findings.explained[0].sample_id])
    examined = ReportInput(
        outputs=outputs,
        classes=cohort.class_names,
        findings=findings,
        covariates=data.encoder.feature_names,
        axis=data.axis,
        axis_name=read_units(cohort.root).get(AXIS, UNNAMED_AXIS),
        columns=_columns(cohort, np.array([row_of[name] for name in outputs.sample_id])),
        inputs=inputs,
    )
    return examined.in_units_of(data.scaler)


def _inputs(outcome: Outcome, rows: list[int]) -> ExplainedInputs:
    data, cohort = outcome.data, outcome.data.cohort
    total = np.zeros(data.spec_len)
    given = np.empty((len(rows), data.spec_len), dtype=np.float32)
    for place, row in enumerate(rows):
        scans = np.array(cohort.spectra[cohort.scan_rows[row]], dtype=np.float32)
        total += data.transforms.place(scans).mean(axis=0, dtype=np.float64)
        given[place] = data.transforms(scans).mean(axis=0)
    covariates = data.encoder.transform(cohort.samples.iloc[rows])
    return ExplainedInputs(given, covariates, total / max(len(rows), 1), "mean raw intensity")


def _columns(cohort: Cohort, rows: np.ndarray) -> dict[str, list[str]]:
    """The groups, and the table's columns that sort the samples into a few kinds otherwise."""
    groups = cohort.groups[rows]
    table = cohort.samples.iloc[rows].drop(columns=[SAMPLE_ID, *cohort.numeric])
    found = {GROUP: [str(group) for group in groups]}
    known = [_partition(groups), _partition(cohort.targets[rows])]
    for name in [*cohort.categorical, *table.columns.drop(cohort.categorical)]:
        values, own = table[name].fillna("(missing)"), _partition(table[name])
        few = 0 < own.max() < min(MOST_VALUES, len(rows) // FEWEST_A_VALUE)
        if few and not any(np.array_equal(own, other) for other in known):
            found[str(name)] = [str(value) for value in values]
            known.append(own)
        if len(found) > MOST_COLUMNS:
            break
    return found


def _partition(values: np.ndarray | pd.Series) -> np.ndarray:
    """Numbers that are equal where values are, the same whatever the values are called."""
    rows = np.asarray(values)
    if rows.ndim == 2:
        rows = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return np.asarray(pd.factorize(rows, use_na_sentinel=False)[0])

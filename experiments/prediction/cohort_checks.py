"""What a model needs of a new cohort, which is read without targets and held against it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.cohort import (
    SAMPLE_ID,
    SAMPLES_FILE,
    SEVERAL_COLUMNS,
    SPECTRA_FILE,
    UNLABELLED,
    Cohort,
    Roles,
    as_text,
    csv_rows,
    is_missing,
    match_targets,
    read_header,
    read_units,
    require_file,
)
from datasets.errors import CohortError, nearest
from datasets.paths import as_path
from datasets.transforms import AxisMap
from experiments.prediction.fitted import Fitted, NewCohort

# Fewer points than this share of the model's, within its axis, hide its peaks.
FEWEST_POINTS = 0.5
# So many of the model's points between two neighbours of the cohort's would be made up.
MOST_BETWEEN = 4
IGNORE_LABELS, IMPUTE = "--ignore-labels", "--impute"


@dataclass(frozen=True)
class Demands:
    """What a model needs of a cohort, and what its user allows.

    ``reads`` are the modalities that the model reads, ``does_without`` those of them that it was
    trained to do without. ``impute`` allows missing columns and unknown categories: the values are
    imputed as missing ones are in training, and an unknown category is none of the known ones.
    ``ignore_labels``: no targets are read.
    """

    reads: Collection[str]
    does_without: Collection[str] = ()
    impute: bool = False
    ignore_labels: bool = False


def check_cohort(source: str | Path | Cohort, fitted: Fitted, demands: Demands) -> NewCohort:
    """Read a cohort's folder, or take a cohort, and hold it against what a model was fitted to.

    Columns of labels and of groups may be missing. CohortError where the model cannot predict the
    cohort.
    """
    cohort = source if isinstance(source, Cohort) else _read(as_path(source), fitted)
    if not len(cohort):
        raise CohortError(f"{cohort.root}: no sample is chosen; at least one was expected")
    notes: list[str] = []
    lacking = _lacking(cohort, fitted, demands, notes)
    absent = [*lacking, *({"spectra", "covariates"} - set(demands.reads))]
    used = [] if "spectra" in absent else ["axis", "spectra"]
    used += [] if "covariates" in absent else fitted.encoder.numeric
    _check_units(cohort, fitted, used, notes)
    axis_map = None if "spectra" in absent else _fit_axis(cohort, fitted, notes)
    if "covariates" not in absent:
        cohort = _fit_covariates(cohort, fitted, demands.impute, notes)
    targets = None if demands.ignore_labels else _read_targets(cohort, fitted, notes)
    return NewCohort(cohort, axis_map, absent, targets, notes)


def _read(folder: Path, fitted: Fitted) -> Cohort:
    header: Sequence[str] = ()
    if folder.is_dir():  # otherwise the cohort's own error
        path = require_file(folder / SAMPLES_FILE)
        header = read_header(next(csv_rows(path, str(path)), (1, []))[1], str(path))
    # The model's column, else the cohort's own; without either each sample is a group.
    own = Roles.choose(folder, header, None, None, (), ()).group
    groups = (fitted.plain.get("group"), own, SAMPLE_ID)
    return Cohort.read(
        folder,
        task=UNLABELLED,
        group=next(column for column in groups if column in (*header, SAMPLE_ID)),
        numeric=[column for column in fitted.encoder.numeric if column in header],
        categorical=[column for column in fitted.encoder.categorical if column in header],
    )


def _lacking(cohort: Cohort, fitted: Fitted, demands: Demands, notes: list[str]) -> list[str]:
    """The modality that the model reads and the cohort lacks, if any."""
    covariates = [*fitted.encoder.numeric, *fitted.encoder.categorical]
    has = {
        "spectra": cohort.has_spectra,
        "covariates": any(column in cohort.samples.columns for column in covariates),
    }
    files = {"spectra": SPECTRA_FILE, "covariates": f"column of {', '.join(covariates)}"}
    lacking = [modality for modality in demands.reads if not has[modality]]
    for modality in lacking:
        if modality not in demands.does_without or len(lacking) > 1:
            raise CohortError(
                f"{cohort.root} has no {modality} (no {files[modality]}), which the model reads"
                f"{'' if demands.does_without else ': it was not trained to do without'}"
            )
        notes.append(f"no {modality}: the model was trained to do without (modality_dropout)")
    return lacking


def _check_units(cohort: Cohort, fitted: Fitted, used: Sequence[str], notes: list[str]) -> None:
    known: Mapping[str, str] = fitted.plain.get("units") or {}
    own = read_units(cohort.root)
    for name in (name for name in used if name in known and name in own):
        if known[name].split() != own[name].split():
            raise CohortError(
                f"{cohort.root}: the unit of {name} is {own[name]}, but the model's is "
                f"{known[name]}; convert the values"
            )
    unnamed = [f"{name} {known[name]}" for name in used if name in known and name not in own]
    if unnamed:
        notes.append(f"units that the cohort does not name, taken as the model's: {_and(unnamed)}")
    unknown = [f"{name} {own[name]}" for name in used if name in own and name not in known]
    if unknown:
        notes.append(f"units that the model does not know, not checked: {_and(unknown)}")


def _fit_axis(cohort: Cohort, fitted: Fitted, notes: list[str]) -> AxisMap | None:
    wanted = fitted.axis.astype(np.float64)
    own = cohort.axis.astype(np.float64)
    if len(own) == len(wanted) and np.array_equal(own.astype(np.float32), wanted.astype("f4")):
        return None
    axis = f"the axis of {len(own)} points from {own[0]:g} to {own[-1]:g}"
    model = f"the model's of {len(wanted)} points from {wanted[0]:g} to {wanted[-1]:g}"
    # An end that differs by the rounding of float32 is the same one.
    first, last = np.float32(own[0]), np.float32(own[-1])
    if len(own) < 2 or first > np.float32(wanted[0]) or last < np.float32(wanted[-1]):
        raise CohortError(f"{cohort.root}: {axis} does not cover {model}")
    within = int(((own >= wanted[0]) & (own <= wanted[-1])).sum())
    if within < FEWEST_POINTS * len(wanted):
        raise CohortError(
            f"{cohort.root}: {axis} has {within} points within {model}; at least "
            f"{int(np.ceil(FEWEST_POINTS * len(wanted)))} were expected"
        )
    after = np.searchsorted(own, wanted)
    between = np.bincount(after[own[np.minimum(after, len(own) - 1)] != wanted])
    if len(between) and between.max() > MOST_BETWEEN:
        place = min(max(int(between.argmax()), 1), len(own) - 1)
        raise CohortError(
            f"{cohort.root}: {axis} has no point between {own[place - 1]:g} and {own[place]:g}, "
            f"where {model} has {between.max()}; at most {MOST_BETWEEN} are interpolated"
        )
    notes.append(f"{axis} is resampled to {model}")
    return AxisMap(own, wanted)


def _fit_covariates(cohort: Cohort, fitted: Fitted, impute: bool, notes: list[str]) -> Cohort:
    encoder, samples = fitted.encoder, cohort.samples
    covariates = [*encoder.numeric, *encoder.categorical]
    absent = [column for column in covariates if column not in samples.columns]
    if absent and not impute:
        raise CohortError(
            f"{cohort.root / SAMPLES_FILE} has no covariate {absent[0]!r}, which the model takes"
            f"{nearest(absent[0], samples.columns)}; {IMPUTE} imputes it"
        )
    if absent:
        notes.append(f"columns that are missing, imputed in all samples: {_and(absent)}")
        added: dict[str, Any] = dict.fromkeys(absent, np.nan)
        samples = samples.assign(**added)
        cohort = replace(cohort, samples=samples)
    present = [column for column in covariates if column not in absent]
    counts = {column: int(is_missing(samples[column]).sum()) for column in present}
    gaps = [f"{column} in {count}" for column, count in counts.items() if count]
    if gaps:
        notes.append(f"missing values, imputed as in training: {_and(gaps)} samples")
    categories: Mapping[str, Sequence[str]] = encoder.state_dict()["categories"]
    unknown = {
        column: _unknown(samples[column], categories[column])
        for column in encoder.categorical
        if column in present
    }
    for column, found in unknown.items():
        if len(found) and not impute:
            raise CohortError(
                f"{cohort.root / SAMPLES_FILE}: {column!r} is {found.index[0]!r} in "
                f"{found.iloc[0]} samples, a category that the model does not know"
                f"{nearest(found.index[0], categories[column])}; {IMPUTE} takes it as none of them"
            )
        told = [f"{name} in {count}" for name, count in found.items()]
        if told:
            notes.append(f"unknown categories of {column}, taken as none: {_and(told)} samples")
    return cohort


def _unknown(values: pd.Series, known: Sequence[str]) -> pd.Series:
    """The categories that are not known, with their counts."""
    given = values[~is_missing(values)].astype(object).map(as_text)
    return given[~given.isin(list(known))].value_counts()


def _read_targets(cohort: Cohort, fitted: Fitted, notes: list[str]) -> np.ndarray | None:
    """The targets, if the cohort has the model's columns of labels."""
    columns = list(fitted.plain.get("label") or [])
    samples, where = cohort.samples, cohort.root / SAMPLES_FILE
    present = [column for column in columns if column in samples.columns]
    if not present:
        return None
    try:
        if present != columns:
            absent = next(column for column in columns if column not in present)
            raise CohortError(f"{where} has the labels {_and(present)}, but no {absent!r}")
        numbers: Mapping[str, int] = {}
        if fitted.task not in SEVERAL_COLUMNS:
            each = {name: number for number, name in enumerate(fitted.class_names)}
            numbers = fitted.config.data.labels or each
        if fitted.task == "regression":
            _check_units(cohort, fitted, columns, notes)
        targets = match_targets(samples, columns, fitted.task, numbers, str(where))
    except CohortError as error:
        raise CohortError(f"{error}; {IGNORE_LABELS} predicts without labels") from error
    known = targets >= 0 if fitted.task != "regression" else np.isfinite(targets)
    return targets if known.any() else None


def _and(names: Sequence[str]) -> str:
    return ", ".join(names)

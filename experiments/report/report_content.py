"""The content of a run's page, of a finished run or of one in progress."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from datasets.cohort import (
    MISSING_LABEL,
    UNNAMED_AXIS,
    Cohort,
    about_positive,
    read_units,
    spread_texts,
)
from datasets.messages import Message, sentences
from datasets.splits import SUBSETS
from engine.metrics import CLASSES, LAST_EPOCH, EpochOutputs
from engine.reporting import read_log
from experiments.analysis import Outcome, TestAnalysis, about_members
from experiments.config import write_yaml
from experiments.launch import REQUIREMENTS
from experiments.report.text import limits, warnings_of
from experiments.report.words import names_of_kinds
from experiments.run_files import RunFile, without_places

if TYPE_CHECKING:
    import pandas as pd

    from datasets.audit import Finding
    from engine.statistics import Interval
    from experiments.baselines import Leaderboard
    from experiments.builders import Data
    from experiments.report.figures import Part

SUBSET_NAMES = {"train": "training", "val": "validation", "test": "test"}
# What of the environment says on whose machine it was; a page is handed on.
PLACES = ("host",)


@dataclass(frozen=True)
class SampleSource:
    """The samples' spectra and covariates.

    ``spectra`` are raw intensities, usually memory-mapped, [N_scans, L]; ``scan_rows`` sample ->
    its rows, [S_i]; ``axis`` the places of the points that a model is given, [L]; ``place`` brings
    raw scans onto it (None: they are). ``values`` are sample -> those of K ``covariates`` as text,
    empty where there is none; ``feature_of`` the covariate of each of the model's D features;
    ``scale`` as of :class:`ReportInput`.
    """

    spectra: np.ndarray
    scan_rows: Mapping[str, np.ndarray]
    axis: np.ndarray
    axis_name: str = UNNAMED_AXIS
    covariates: Sequence[str] = ()
    values: Mapping[str, Sequence[str]] | None = None
    feature_of: Sequence[int] = ()
    scale: Sequence[float] | None = None
    place: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class ReportContent:
    """All that a run's page shows.

    ``status`` is ``running`` while there are no test figures yet, ``epoch`` the last one that is
    over. ``class_names`` are of the classes, the labels or the regression's targets. ``split`` has
    one row per subset: its name, its samples, groups and scans, and of each class or label how many
    samples, of each value its mean and spread. ``audit`` is None where nobody looked. ``headline``
    are the metrics that a reader asks for first -> their value on the validation set, ``tested`` on
    the test set, empty before there are any. ``warnings`` are of this very data; ``limits`` hold of
    all such figures. ``epochs`` are rows of the log with ``epoch`` and ``metrics``. ``val`` is
    shown where there are no outputs of the test set; ``groups`` are sample -> group; ``samples``
    None leaves the explorer out; ``names`` are the user's own, not translated.
    """

    title: str
    status: Literal["running", "finished"]
    epoch: int
    max_epochs: int
    task: str
    class_names: Sequence[str]
    language: str = "en"
    model: str = ""
    task_text: str = ""
    cohort: Sequence[str] = ()
    split: Sequence[tuple[str, int, int, int, Sequence[str]]] = ()
    audit: Sequence[Finding] | None = None
    headline: Mapping[str, float] = field(default_factory=dict)
    tested: Mapping[str, Interval] = field(default_factory=dict)
    about_intervals: str = ""
    leaderboard: Leaderboard | None = None
    warnings: Sequence[str] = ()
    limits: Sequence[str] = ()
    epochs: Sequence[Mapping[str, Any]] = ()
    val: EpochOutputs | None = None
    test: EpochOutputs | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    findings: TestAnalysis = field(default_factory=TestAnalysis)
    samples: SampleSource | None = None
    parts: Sequence[Part] = ()
    settings: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    names: Sequence[str] = ()

    @property
    def outputs(self) -> EpochOutputs | None:
        """Those of the test set; before there are any, of the validation set."""
        return self.val if self.test is None else self.test

    @property
    def subset(self) -> str:
        """The subset of :attr:`outputs`, ``test`` or ``validation``."""
        return "validation" if self.test is None else "test"


def content_of(
    outcome: Outcome, parts: Sequence[Part] = (), epochs: Sequence[Mapping[str, Any]] | None = None
) -> ReportContent:
    """The page of a run, whose environment is in its folder.

    A run in progress has no outputs of the test set; ``epochs`` are its rows so far. Those of a
    finished run are in its log.
    """
    config, data, run_dir = outcome.config, outcome.data, outcome.run_dir
    cohort, test = data.cohort, outcome.outputs.get("test")
    finished, names = test is not None, config.metric_names
    if epochs is None:
        epochs = [row for row in read_log(run_dir / RunFile.LOG) if row["event"] == "epoch"]
    val, told = outcome.results["val"], warnings_of(outcome) if finished else ()
    # The positive class is named beside the figures.
    positive = about_positive(cohort.task, cohort.class_names)
    described: list[str] = [line for line in cohort.lines() if line != positive]
    described += [*data.describe_transforms(), *([data.tested] if data.tested else [])]
    lines = (line if isinstance(line, Message) else Message("{}", line) for line in described)
    pairs = zip(cohort.sample_ids, cohort.groups, strict=True)
    return ReportContent(
        title=run_dir.name,
        status="finished" if finished else "running",
        epoch=outcome.epochs,
        max_epochs=config.trainer.max_epochs or 0,
        task=cohort.task,
        class_names=cohort.class_names,
        language=config.report.language,
        model=_about_model(outcome),
        task_text=_task_text(cohort),
        # The subsets have a table of their own.
        cohort=[line.capitalized for line in lines],
        split=[_split_row(data, subset) for subset in SUBSETS],
        audit=outcome.audit if config.audit.enabled else None,
        headline={name: val[name] for name in names if name in val},
        tested={name: outcome.test_interval(name) for name in names} if finished else {},
        about_intervals=outcome.about_intervals(),
        leaderboard=outcome.leaderboard,
        warnings=[Message("{}.", line) for line in dict.fromkeys(told)],
        limits=limits(outcome) if finished else [],
        epochs=epochs,
        val=outcome.outputs.get("val"),
        test=test,
        groups={name: str(group) for name, group in pairs},
        findings=outcome.findings,
        # The explorer is one of spectra.
        samples=sample_source(data, test.sample_id) if test and cohort.has_spectra else None,
        parts=parts,
        settings=write_yaml(without_places(config.resolved())),
        environment=_environment(run_dir),
        names=[
            cohort.root.name,
            *cohort.numeric,
            *cohort.categorical,
            *data.encoder.feature_names,
            *(name for name in cohort.excluded if name != MISSING_LABEL),
            *sorted(names_of_kinds(cohort)),
        ],
    )


def sample_source(data: Data, sample_ids: Sequence[str]) -> SampleSource:
    """The explorer's spectra and covariates of these samples."""
    cohort = data.cohort
    row_of = {name: row for row, name in enumerate(cohort.sample_ids)}
    units = read_units(cohort.root)
    columns = [*cohort.numeric, *cohort.categorical]
    place = {column: number for number, column in enumerate(columns)}
    table = cohort.samples.iloc[[row_of[name] for name in sample_ids]]
    texts = [_texts(table[column], units.get(column)) for column in columns]
    rows = zip(*texts, strict=True) if columns else [()] * len(sample_ids)
    return SampleSource(
        spectra=cohort.spectra,
        scan_rows={name: cohort.scan_rows[row_of[name]] for name in sample_ids},
        axis=data.axis,
        place=data.transforms.place,
        axis_name=units.get("axis", UNNAMED_AXIS),
        covariates=columns,
        values={name: list(row) for name, row in zip(sample_ids, rows, strict=True)},
        feature_of=[place[column] for column in data.encoder.feature_columns],
        scale=None if data.scaler is None else data.scaler.state_dict()["std"],
    )


def _texts(column: pd.Series, unit: str | None) -> list[str]:
    """Each value as a person writes it, empty where there is none."""
    behind = f" {unit}" if unit else ""
    texts = (f"{value:.6g}" if isinstance(value, float) else str(value) for value in column)
    known = zip(texts, column.notna(), strict=True)
    return [text + behind if there else "" for text, there in known]


def _about_model(outcome: Outcome) -> str:
    config = outcome.config
    told, monitor = "Model {} with {} parameters", config.checkpoint.monitor
    about = (config.model.name, f"{outcome.parameters:,}")
    if monitor == LAST_EPOCH:
        text = Message(f"{told}; the last epoch, as few samples validate it.", *about)
    else:
        text = Message(f"{told}; the best checkpoint by {{}}.", *about, monitor)
    members = about_members(outcome.member_weights)
    if members:
        text = sentences(text, Message("{}.", members.capitalized))
    if "val" not in outcome.data.fitted_on:
        return text
    refitted = Message(
        "Refitted to the training and validation sets: weights, predictions and test figures "
        "are of the refitted model, validation figures and thresholds of the selected one."
    )
    return sentences(text, refitted)


def _environment(run_dir: Path) -> Any:
    known = json.loads((run_dir / RunFile.ENVIRONMENT).read_text("utf-8"))
    # The few packages that matter to a reader stand under "packages".
    environment = {k: value for k, value in known.items() if k not in (*PLACES, REQUIREMENTS)}
    if environment.get("command"):
        environment["command"] = shlex.join(without_places(shlex.split(environment["command"])))
    return without_places(environment)


def _split_row(data: Data, subset: str) -> tuple[str, int, int, int, list[str]]:
    cohort, chosen = data.cohort, data.split == subset
    targets = cohort.targets[chosen]
    if cohort.task == "regression":
        cells = [" ± ".join(spread_texts(column)[:2]) for column in targets.T]
    elif cohort.task in CLASSES:
        cells = [str(n) for n in np.bincount(targets, minlength=len(cohort.class_names))]
    else:
        cells = [str(n) for n in targets.sum(axis=0)]
    groups = len(np.unique(cohort.groups[chosen]))
    scans = sum(len(cohort.scan_rows[row]) for row in np.flatnonzero(chosen))
    return SUBSET_NAMES[subset], int(chosen.sum()), groups, scans, cells


def _task_text(cohort: Cohort) -> Message:
    names = ", ".join(cohort.class_names)
    if cohort.task == "binary":
        told = "Two classes: {} (positive) and {} (negative)."
        return Message(told, *reversed(cohort.class_names))
    if cohort.task == "regression":
        return Message("Regression targets: {}.", names)
    several = cohort.task == "multilabel"
    told = "{} labels, each present or absent: {}." if several else "{} classes: {}."
    return Message(told, len(cohort.class_names), names)

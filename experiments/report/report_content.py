"""The content of a run's page, of a finished run or of one in progress."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from datasets.audit import Finding
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
from experiments.analysis import Outcome, TestAnalysis
from experiments.baselines import Leaderboard
from experiments.builders import Data
from experiments.config import Config, write_yaml
from experiments.launch import REQUIREMENTS
from experiments.report.text import limits, warnings_of
from experiments.report.words import names_of_kinds
from experiments.run_files import ENVIRONMENT_NAME, LOG_NAME, without_places

if TYPE_CHECKING:
    from engine.statistics import Interval
    from experiments.report.figures import Part

SUBSET_NAMES = {"train": "training", "val": "validation", "test": "test"}
# What of the environment says on whose machine it was; a page is handed on.
PLACES = ("host",)


@dataclass(frozen=True)
class SampleSource:
    """The samples' spectra and covariates.

    Attributes:
        spectra: Raw intensities, usually memory-mapped, [N_scans, L].
        scan_rows: Sample -> the rows of ``spectra`` that are its scans, [S_i].
        axis: The places of the points that a model is given, [L].
        axis_name: What the places are (``m/z``, ``cm-1``).
        values: Sample -> the value of each of K ``covariates`` as text, empty where there is none.
        feature_of: For each of the D features that a model is given the covariate it was made of.
        scale: As of :class:`ReportInput`.
        place: Brings raw scans onto that axis; None where they are on it.
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

    Attributes:
        status: ``running`` while there are no test figures yet.
        epoch: The last one that is over, of ``max_epochs``.
        class_names: Of the classes, the labels or the regression's targets.
        language: The reader can change it.
        cohort: Lines on the data.
        split: One row per subset: its name, its samples, groups and scans, and of each class or
            label how many samples, of each value its mean and spread.
        audit: What was found in the data before the training; None where nobody looked.
        headline: The metrics that a reader asks for first -> their value on the validation set.
        tested: The same on the test set, with intervals; empty before there are any.
        leaderboard: The network beside its baselines, if there are any.
        warnings: What was found in this very data; ``limits`` hold of all such figures.
        epochs: Rows of the log with ``epoch`` and ``metrics``.
        val: Shown where there are no outputs of the test set.
        groups: Sample -> its group.
        samples: Where the explorer finds scans and covariates; None leaves it out.
        names: Further names of the user's own, which no translation touches.
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
    def about_positive(self) -> str:
        """Which class is the positive one, in a sentence; empty for tasks other than binary."""
        about = about_positive(self.task, self.class_names)
        return Message("{}.", about.capitalized) if about else ""

    @property
    def subset(self) -> str:
        """The subset of :attr:`outputs`, ``test`` or ``validation``."""
        return "validation" if self.test is None else "test"


def content_of(outcome: Outcome, parts: Sequence[Part] = ()) -> ReportContent:
    """The page of a finished run, whose log and environment are in its folder."""
    names = outcome.config.metric_names
    epochs = _epochs_of(outcome.run_dir)
    return ReportContent(
        status="finished",
        epoch=outcome.epochs,
        headline={name: outcome.results["val"][name] for name in names},
        tested={name: outcome.test_interval(name) for name in names},
        about_intervals=outcome.about_intervals(),
        leaderboard=outcome.leaderboard,
        warnings=[Message("{}.", line) for line in dict.fromkeys(warnings_of(outcome))],
        limits=limits(outcome),
        audit=outcome.audit if outcome.config.audit.enabled else None,
        epochs=epochs,
        val=outcome.outputs["val"],
        test=outcome.outputs["test"],
        findings=outcome.findings,
        samples=_samples_of(outcome),
        parts=parts,
        **_known_from_the_start(outcome.run_dir, outcome.config, outcome.data, outcome.parameters),
    )


def content_while_training(
    run_dir: Path,
    config: Config,
    data: Data,
    epochs: Sequence[Mapping[str, Any]],
    val: EpochOutputs | None = None,
    parameters: int | None = None,
    audit: Sequence[Finding] | None = None,
) -> ReportContent:
    """The page of a run in progress.

    ``run_dir`` has the environment; ``epochs`` are rows of epochs that are over; the audit is None
    where nobody looked.
    """
    metrics = epochs[-1]["metrics"] if epochs else {}
    return ReportContent(
        status="running",
        epoch=epochs[-1]["epoch"] if epochs else 0,
        headline={
            name: float(metrics[f"val/{name}"])
            for name in config.metric_names
            if metrics.get(f"val/{name}") is not None
        },
        epochs=epochs,
        val=val,
        audit=audit,
        **_known_from_the_start(run_dir, config, data, parameters),
    )


def sample_source(data: Data, sample_ids: Sequence[str]) -> SampleSource:
    """The explorer's spectra and covariates of these samples."""
    cohort = data.cohort
    row_of = {name: row for row, name in enumerate(cohort.sample_ids)}
    rows = [row_of[name] for name in sample_ids]
    units = read_units(cohort.root)
    columns = [*cohort.numeric, *cohort.categorical]
    place = {column: number for number, column in enumerate(columns)}
    table = cohort.samples.iloc[rows]
    texts = {column: _texts(table[column], units.get(column)) for column in columns}
    return SampleSource(
        spectra=cohort.spectra,
        scan_rows={name: cohort.scan_rows[row_of[name]] for name in sample_ids},
        axis=data.axis,
        place=data.transforms.place,
        axis_name=units.get("axis", UNNAMED_AXIS),
        covariates=columns,
        values={
            name: [texts[column][number] for column in columns]
            for number, name in enumerate(sample_ids)
        },
        feature_of=[place[column] for column in data.encoder.feature_columns],
        scale=None if data.scaler is None else data.scaler.state_dict()["std"],
    )


def _texts(values: Any, unit: str | None) -> list[str]:
    """Each value as a person writes it, empty where there is none."""
    behind = f" {unit}" if unit else ""
    return [
        ""
        if value is None or value != value  # NaN alone differs from itself
        else (f"{value:.6g}" if isinstance(value, float) else str(value)) + behind
        for value in values
    ]


def _samples_of(outcome: Outcome) -> SampleSource | None:
    """None of a cohort of covariates alone: the explorer is one of spectra."""
    if not outcome.data.cohort.has_spectra:
        return None
    return sample_source(outcome.data, outcome.outputs["test"].sample_id)


def _known_from_the_start(
    run_dir: Path, config: Config, data: Data, parameters: int | None
) -> dict[str, Any]:
    cohort = data.cohort
    model, monitor = config.model.name, config.checkpoint.monitor
    count = () if parameters is None else (f"{parameters:,}",)
    told = "Model {} with {} parameters" if count else "Model {}"
    if monitor == LAST_EPOCH:
        about_model = Message(f"{told}; the last epoch, as few samples validate it.", model, *count)
    else:
        about_model = Message(f"{told}; the best checkpoint by {{}}.", model, *count, monitor)
    if "val" in data.fitted_on:
        refitted = Message(
            "Refitted to the training and validation sets: weights, predictions and test figures "
            "are of the refitted model, validation figures and thresholds of the selected one."
        )
        about_model = sentences(about_model, refitted)
    # The positive class is named beside the figures.
    positive = about_positive(cohort.task, cohort.class_names)
    described: list[str] = [line for line in cohort.lines() if line != positive]
    described += [*data.describe_transforms(), *([data.tested] if data.tested else [])]
    environment = json.loads((run_dir / ENVIRONMENT_NAME).read_text("utf-8"))
    return {
        "title": run_dir.name,
        "max_epochs": config.trainer.max_epochs,
        "task": cohort.task,
        "class_names": cohort.class_names,
        "language": config.report.language,
        "model": about_model,
        "task_text": _task_text(cohort),
        # The subsets have a table of their own.
        "cohort": [
            (line if isinstance(line, Message) else Message("{}", line)).capitalized
            for line in described
        ],
        "split": [_split_row(data, subset) for subset in SUBSETS],
        "groups": {
            name: str(group) for name, group in zip(cohort.sample_ids, cohort.groups, strict=True)
        },
        "settings": write_yaml(without_places(config.resolved())),
        "environment": _without_places(environment),
        "names": [
            cohort.root.name,
            *cohort.numeric,
            *cohort.categorical,
            *data.encoder.feature_names,
            *(name for name in cohort.excluded if name != MISSING_LABEL),
            *sorted(names_of_kinds(cohort)),
        ],
    }


def _without_places(environment: dict[str, Any]) -> dict[str, Any]:
    # The few packages that matter to a reader stand under "packages".
    kept = {k: value for k, value in environment.items() if k not in (*PLACES, REQUIREMENTS)}
    if kept.get("command"):
        kept["command"] = shlex.join(without_places(shlex.split(kept["command"])))
    found: dict[str, Any] = without_places(kept)
    return found


def _epochs_of(run_dir: Path) -> list[dict[str, Any]]:
    return [row for row in read_log(run_dir / LOG_NAME) if row["event"] == "epoch"]


def _split_row(data: Data, subset: str) -> tuple[str, int, int, int, list[str]]:
    cohort, chosen = data.cohort, data.split == subset
    targets = cohort.targets[chosen]
    if cohort.task == "regression":
        cells = [" ± ".join(spread_texts(column)[:2]) for column in targets.T]
    elif cohort.task in CLASSES:
        cells = [str(n) for n in np.bincount(targets, minlength=len(cohort.class_names))]
    else:
        cells = [str(n) for n in targets.sum(axis=0)]
    return (
        SUBSET_NAMES[subset],
        int(chosen.sum()),
        len(np.unique(cohort.groups[chosen])),
        sum(len(cohort.scan_rows[row]) for row in np.flatnonzero(chosen)),
        cells,
    )


def _task_text(cohort: Cohort) -> Message:
    names, count = ", ".join(cohort.class_names), len(cohort.class_names)
    if cohort.task == "binary":
        negative, positive = cohort.class_names
        return Message("Two classes: {} (positive) and {} (negative).", positive, negative)
    if cohort.task == "multiclass":
        return Message("{} classes: {}.", count, names)
    if cohort.task == "multilabel":
        return Message("{} labels, each present or absent: {}.", count, names)
    return Message("Regression targets: {}.", names)

"""What stands first on the page, but for the audit's findings, is said in Chinese too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.audit import Finding
from datasets.cohort import SPECTRAL_FILES
from datasets.messages import Message
from datasets.simulation import simulate_cohort
from engine.statistics import HIGHEST, LOWEST, Calibration, Interval, OperatingPoint, Reliability
from experiments.analysis import Outcome, TestAnalysis
from experiments.builders import build_data
from experiments.config import check_config
from experiments.report.report_content import content_of
from experiments.report.text import limits, warnings_of
from experiments.run_files import RunFile
from tests.datasets.audit.faulty_cohort import Files, write_cohort
from tests.experiments.report.said_in_chinese import english_left
from tests.experiments.report.test_audit_words import LABELS, SAMPLES, add_labels

SHARE = {"tp": 8, "fn": 2, "tn": 9, "fp": 1, "sensitivity": 0.8, "specificity": 0.9}
WORSE = {"tp": 2, "fn": 8, "tn": 1, "fp": 9, "sensitivity": 0.2, "specificity": 0.1}
DISGUISE = Message(
    "{} is {} in another form, or follows from it; leave it out of data.{}",
    *("a_b", Message("the label"), "numeric"),
)
NO_BINS = Reliability(np.array([]), np.array([]), np.array([]), 0.1, 0.2, 0.3)
TASKS: dict[str, dict[str, Any]] = {
    "binary": {"labels": LABELS},
    "multiclass": {"label": "stage"},
    "multilabel": {"label": ["first", "second"], "task": "multilabel"},
    "regression": {"label": ["score", "BMI"], "task": "regression"},
}


def make_outcome(root: Path, task: str = "binary", **data: Any) -> Outcome:
    """An outcome without a training: the cohort as a run would have it, and no figures yet."""
    own = {"root": str(root), "numeric": ["age"], "categorical": ["sex"]}
    config = check_config({"data": own | TASKS[task] | data})
    nothing: dict[str, float] = dict.fromkeys(config.metric_names, 0.5)
    return Outcome(
        run_dir=root,
        config=config,
        data=build_data(config),
        results={"val": nothing, "test": nothing},
        outputs={},
        epochs=1,
        optimizer_steps=1,
        parameters=1,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of every task, half of what a model is given missing."""

    def put(files: Files) -> None:
        add_labels(files)
        files.samples["group"] = np.arange(SAMPLES) % 30
        files.samples.loc[::3, ["age", "sex"]] = np.nan
        files.samples.loc[::25, "label"] = np.nan
        files.samples.loc[1::25, "label"] = "left out"

    folder = tmp_path_factory.mktemp("overview")
    clean = simulate_cohort(folder / "clean", 11, n_samples=SAMPLES, spec_len=64, max_scans=3)
    return write_cohort(clean.root, folder / "small", put)


def names_of(outcome: Outcome) -> set[str]:
    cohort = outcome.data.cohort
    known = {cohort.root.name, *cohort.class_names, *cohort.samples.columns, *cohort.excluded}
    known |= {outcome.config.model.name, str(outcome.config.checkpoint.monitor)}
    return {str(name) for name in known} - {"(missing)"}


def told(outcome: Outcome) -> list[str]:
    return [*limits(outcome), *(Message("{}.", told) for told in warnings_of(outcome))]


def decided(
    val: Mapping[str, float], test: Mapping[str, float], threshold: float = 0.5
) -> TestAnalysis:
    return TestAnalysis({"case": [OperatingPoint("youden", None, threshold, val, test)]})


def outcomes(root: Path) -> Iterator[Outcome]:
    """Outcomes that between them give all that the card can warn of."""
    yield from (make_outcome(root, task) for task in TASKS)
    yield make_outcome(root, missing_indicators=False)
    binary = make_outcome(root)
    metrics = ["auroc", "precision", "recall_at_fpr@0.05", "modality_agreement"]
    undefined = dict.fromkeys(metrics, np.nan)
    binary = replace(
        binary,
        config=binary.config.model_copy(update={"metrics": metrics}),
        results={"val": undefined, "test": undefined},
        intervals={name: Interval(0.5) for name in metrics},
        audit=[Finding("label_leakage:a_b", "refuse", 1, DISGUISE, accepted=True)],
    )
    yield binary
    one_group = np.where(binary.data.split == "test", "g1", binary.data.cohort.groups)
    cohort = replace(binary.data.cohort, groups=one_group)
    yield replace(binary, data=replace(binary.data, cohort=cohort))
    for findings in (decided(SHARE, WORSE), decided(SHARE, SHARE, np.nan)):
        yield replace(binary, findings=findings)
    for temperature in (LOWEST, HIGHEST, 0.5, 2.5):
        found = TestAnalysis(calibration=Calibration(temperature, NO_BINS, NO_BINS))
        yield replace(binary, findings=found)


LIMITS = (
    "one cohort",
    "One model",
    "Subgroups",
    "An association",
    "(it was accepted).",
    "in the validation set: control",
    "in the test set: control",
    "samples in the test set: ",
    "undefined in the validation set: auroc, precision",
    "undefined in the test set: auroc, precision",
    "modality_agreement.",
    ": the test set is one group",
    "the threshold for case does not transfer",
    "no threshold for case",
    "the smallest value tried",
    "the largest value tried",
    "underconfident",
    "overconfident",
    "of the samples, filled with the training median; the model has an indicator of missing values",
    "of the samples, filled with the training median; the model has no indicator of missing values",
    "of the samples; the model has an indicator of missing values.",
    "of the samples; the model has no indicator of missing values.",
)


@pytest.mark.slow
def test_all_that_a_card_warns_of_is_said_in_chinese(root):
    left: dict[str, str] = {}
    lines: set[str] = set()
    for outcome in outcomes(root):
        lines |= set(told(outcome))
        left |= english_left(told(outcome), names_of(outcome) | {"a_b"})
    assert [part for part in LIMITS if not any(part in line for line in lines)] == []
    assert left == {}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("without", ["", "spectra", "covariates"])
def test_what_the_data_are_is_said_in_chinese(root, task, without, tmp_path):
    align = {"min_frequency": 0.2, "half_window": 2, "snr": 2}
    crop = {"low": 3000, "high": 12000}
    data: dict[str, Any] = {
        "transforms": [{"name": "align", "params": align}, {"name": "crop", "params": crop}]
    }
    here, lines = root, 7
    if without == "covariates":
        data |= {"numeric": [], "categorical": []}
    if without == "spectra":
        here, lines = write_cohort(root, tmp_path / "alone"), 5
        for name in SPECTRAL_FILES:
            (here / name).unlink()
    outcome = make_outcome(here, task, **data)
    (tmp_path / RunFile.ENVIRONMENT).write_text(json.dumps({}))
    content = content_of(replace(outcome, run_dir=tmp_path, parameters=12_345), epochs=[])
    texts = [content.model, content.task_text, *content.cohort]
    assert len(texts) == lines + bool(outcome.data.cohort.missing)
    assert english_left(texts, names_of(outcome)) == {}

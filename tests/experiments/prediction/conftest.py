"""Finished runs that the tests of predictions share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.config import check_config
from experiments.runs import Experiment
from tests.experiments.conftest import SMALL_TFT
from tests.experiments.prediction.made_cohorts import held_out, make_tasks

TASKS: dict[str, dict[str, Any]] = {
    "binary": {"labels": {"control": 0, "case": 1}},
    "multiclass": {"task": "multiclass", "label": "stage"},
    "multilabel": {"task": "multilabel", "label": ["diseased", "heavy"]},
    "regression": {"task": "regression", "label": ["risk", "BMI"]},
}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort that is trained on."""
    return make_tasks(tmp_path_factory.mktemp("cohorts") / "tasks")


@pytest.fixture(scope="session")
def train(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train on some task: ``train("regression", model={...})``; returns the run's folder."""

    def run(task: str = "binary", **changes: Any) -> Path:
        data = {"root": str(root), **TASKS[task], **changes.pop("data", {})}
        settings = {
            "exp_name": "small",
            "runs_dir": str(tmp_path_factory.mktemp("runs")),
            "data": data,
            "model": {"name": "tft", "params": SMALL_TFT},
            "trainer": {"max_epochs": 1, "batch_size": 8, "device": "cpu"},
            "report": {"enabled": False, "resamples": 0},
            "audit": {"enabled": False},
            "baselines": {"enabled": False},
        }
        experiment = Experiment(check_config(settings | changes))
        experiment.run()
        return experiment.run_dir

    return run


@pytest.fixture(scope="session")
def run_dir(train: Callable[..., Path]) -> Path:
    """A finished run of two classes."""
    return train(model={"name": "tft", "params": SMALL_TFT, "linear_path": True})


@pytest.fixture
def new_cohort(root: Path, run_dir: Path, tmp_path: Path) -> Path:
    """The test samples of that run; change them at will."""
    return held_out(root, run_dir, tmp_path / "new")

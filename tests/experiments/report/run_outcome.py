"""A small run that was trained, examined and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.analysis import Outcome
from experiments.config import check_config
from experiments.runs import Experiment
from tests.experiments.conftest import SMALL_TFT


def make_outcome(cohort_dir: Path, runs_dir: Path, **data: Any) -> Outcome:
    """Train for an epoch and find out all that there is to find."""
    config = check_config(
        {
            "exp_name": "looked-at",
            "runs_dir": str(runs_dir),
            "data": {"root": str(cohort_dir), **data},
            "model": {"name": "tft", "params": SMALL_TFT},
            "trainer": {"max_epochs": 1, "device": "cpu"},
            "report": {"resamples": 0, "attribution": {"steps": 8}},
        }
    )
    experiment = Experiment(config)
    experiment.setup()
    experiment.train()
    experiment.test()
    return Outcome(
        run_dir=experiment.run_dir,
        config=config,
        data=experiment.data,
        results=experiment.results,
        outputs=experiment.outputs,
        epochs=1,
        optimizer_steps=experiment.trainer.state.optimizer_step,
        parameters=1,
        findings=experiment.findings,
    )

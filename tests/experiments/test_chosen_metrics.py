"""Metrics chosen by name, from the configuration to everything that a run leaves behind."""

from __future__ import annotations

import json
import math

import pytest

from datasets.errors import UsageError
from engine.metrics import SAMPLE_STATISTICS
from experiments.report.text import escape_markdown
from experiments.runs import Experiment

pytestmark = pytest.mark.slow

CHOSEN = ["auroc", "modality_consistency", "effective_scans"]


@pytest.fixture
def finished(make_config):
    experiment = Experiment(
        make_config(
            **{
                "metrics": CHOSEN,
                "checkpoint.monitor": "val/modality_consistency",
                "trainer.early_stopping": {"monitor": "val/effective_scans", "patience": 5},
            }
        )
    )
    experiment.run()
    return experiment


def test_sample_statistics_are_treated_like_any_metric(finished):
    metrics = json.loads((finished.run_dir / "metrics.json").read_text())
    assert metrics["monitor"] == "val/modality_consistency"
    epochs = finished.trainer.state.metrics
    for name in CHOSEN:
        assert {f"train/{name}", f"val/{name}"} <= epochs.keys()
        low, high = metrics["test"]["intervals"][name]
        if metrics["test"]["interval_methods"][name] == "too_few":
            assert low is high is None
        else:
            assert low <= finished.results["test"][name] <= high
        assert f"| {escape_markdown(name)} |" in (finished.run_dir / "model_card.md").read_text(
            "utf-8"
        )
    assert 0 < finished.results["test"]["modality_consistency"] < 1
    assert 1 < finished.results["test"]["effective_scans"] <= 3  # the cohort's most scans
    best = max(row["val/modality_consistency"] for row in (m["metrics"] for m in _epochs(finished)))
    assert finished.results["val"]["modality_consistency"] == pytest.approx(best, abs=1e-6)


def _epochs(experiment):
    lines = (experiment.run_dir / "log.jsonl").read_text("utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == "epoch"]


def test_models_without_sample_statistics_use_the_same_settings(make_config):
    experiment = Experiment(
        make_config(**{"metrics": ["auroc", *SAMPLE_STATISTICS], "model": {"name": "tabular_only"}})
    )
    experiment.run()
    assert math.isfinite(experiment.results["test"]["auroc"])
    assert all(math.isnan(experiment.results["test"][name]) for name in SAMPLE_STATISTICS)


def test_a_misspelt_one_is_refused_before_anything_is_trained(make_config, tmp_path):
    experiment = Experiment(make_config(metrics=["auroc", "efective_scans"]))
    with pytest.raises(UsageError, match="did you mean 'effective_scans'"):
        experiment.setup()
    assert not any((tmp_path / "runs").glob("*"))

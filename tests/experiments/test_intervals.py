"""How sure the test figures are, from the experiment to what is written."""

from __future__ import annotations

import json

import pytest

from engine.bootstrap import bootstrap_intervals
from experiments.experiment import Experiment


@pytest.fixture
def finished(make_config):
    experiment = Experiment(
        make_config(**{"model": {"name": "tabular_only"}, "metrics": ["auroc"]})
    )
    experiment.run()
    return experiment


def test_the_intervals_are_drawn_over_the_groups_of_the_test_side(finished):
    outputs, cohort = finished.outputs["test"], finished.data.cohort
    groups = [cohort.groups[cohort.sample_ids.index(name)] for name in outputs.sample_id]
    expected = bootstrap_intervals(outputs, groups, ["auroc"], 50, seed=1)
    assert finished.intervals == expected
    assert expected["auroc"].value == finished.results["test"]["auroc"]


def test_they_stand_in_every_account_of_the_run(finished):
    interval = finished.intervals["auroc"]
    test = json.loads((finished.run_dir / "metrics.json").read_text())["test"]
    assert test["intervals"] == {"auroc": [interval.low, interval.high]}
    bounds = f"{interval.low:.3f} to {interval.high:.3f}"
    assert f"95% {bounds}" in (finished.run_dir / "report" / "index.html").read_text("utf-8")
    assert f"({bounds})" in (finished.run_dir / "summary.md").read_text("utf-8")


def test_none_are_drawn_where_none_are_wanted(make_config):
    changes = {"model": {"name": "tabular_only"}, "report.resamples": 0}
    experiment = Experiment(make_config(**changes))
    experiment.run()
    assert experiment.intervals == {}
    assert "95%" not in (experiment.run_dir / "summary.md").read_text("utf-8")

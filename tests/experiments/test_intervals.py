"""How sure the test figures are, from the experiment to what is written."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from engine.statistics import bootstrap_intervals
from experiments.run import main
from experiments.run_files import read_runs
from experiments.runs import Experiment
from tests.experiments.conftest import changed_config, small_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(cohort_dir, tmp_path_factory):
    settings = small_settings(cohort_dir, tmp_path_factory.mktemp("runs"))
    changes = {"model": {"name": "tabular_only"}, "metrics": ["auroc", "accuracy"]}
    experiment = Experiment(changed_config(settings, **changes))
    experiment.run()
    return experiment


def test_intervals_resample_the_groups_of_the_test_set(finished):
    outputs, cohort = finished.outputs["test"], finished.data.cohort
    groups = [cohort.groups[cohort.sample_ids.index(name)] for name in outputs.sample_id]
    expected = bootstrap_intervals(outputs, groups, ["auroc", "accuracy"], 50, seed=1)
    assert finished.intervals == expected
    assert expected["auroc"].value == finished.results["test"]["auroc"]


def test_they_stand_in_every_account_of_the_run(finished):
    interval = finished.intervals["accuracy"]  # of the ranking 8 samples are too few
    test = json.loads((finished.run_dir / "metrics.json").read_text())["test"]
    assert test["intervals"]["accuracy"] == [interval.low, interval.high]
    bounds = f"{interval.low:.3f} to {interval.high:.3f}"
    assert f"95% {bounds}" in (finished.run_dir / "report" / "index.html").read_text("utf-8")
    assert f"({bounds})" in (finished.run_dir / "summary.md").read_text("utf-8")


def test_none_are_drawn_where_none_are_wanted(make_config):
    changes = {"model": {"name": "tabular_only"}, "report.resamples": 0, "report.enabled": False}
    experiment = Experiment(make_config(**changes))
    experiment.run()
    assert experiment.intervals == {}
    assert "95%" not in (experiment.run_dir / "summary.md").read_text("utf-8")


# -- a test side of 8 samples that are all told rightly ---------------------------------------


@pytest.fixture
def eight(tmp_path):
    """A run, by the command line, on a cohort of 40 whose one covariate tells the classes."""
    root = tmp_path / "cohort"
    root.mkdir()
    names = [f"s{i:02d}" for i in range(40)]
    case = np.arange(40) % 2
    table = {"sample_id": names, "group": names, "label": np.where(case, "case", "control")}
    pd.DataFrame({**table, "marker": 10.0 * case + np.linspace(0, 1, 40)}).to_csv(
        root / "samples.csv", index=False
    )
    sides = ["train"] * 24 + ["val"] * 8 + ["test"] * 8
    splits = pd.DataFrame({"sample_id": names, "group": names, "split": sides})
    splits.to_csv(tmp_path / "splits.csv", index=False)
    settings = {
        "runs_dir": tmp_path / "runs",
        "data.root": root,
        "data.labels": "{control: 0, case: 1}",
        "data.numeric": "[marker]",
        "data.categorical": "[]",
        "data.log": "[]",
        "data.split": f"{{file: {tmp_path / 'splits.csv'}}}",
        "audit.enabled": "false",
        "trainer.device": "cpu",
        "trainer.max_epochs": "20",
        "trainer.batch_size": "8",
        "optimizer.lr": "0.01",
        "report.resamples": "50",
        "baselines.enabled": "false",
    }
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


def test_a_perfect_score_on_8_samples_is_told_as_unsure(eight, tmp_path, capsys):
    assert main(["tabular_only", "--exp_name", "eight", *eight]) == 0
    run_dir = tmp_path / "runs" / "eight"
    test = json.loads((run_dir / "metrics.json").read_text())["test"]
    assert test["metrics"]["auroc"] == test["metrics"]["accuracy"] == 1
    assert test["intervals"]["accuracy"] == pytest.approx([0.6306, 1], abs=1e-4)
    assert test["intervals"]["recall"] == pytest.approx([0.3976, 1], abs=1e-4)
    assert test["intervals"]["auroc"] == [None, None]
    methods = test["interval_methods"]
    assert (methods["accuracy"], methods["auroc"]) == ("clopper_pearson", "too_few")
    assert "No 95% interval of f1, auroc, auprc" in capsys.readouterr().out
    summary = (run_dir / "summary.md").read_text("utf-8")
    assert "| accuracy | 1.0000 | 1.0000 (0.631 to 1.000) |" in summary
    assert "| auroc | 1.0000 | 1.0000 (too few samples) |" in summary
    assert ": Clopper and Pearson (1934)" in summary
    card = (run_dir / "model_card.md").read_text("utf-8")
    assert "| auroc | 1.0000 | 1.0000 | too few samples |" in card
    page = (run_dir / "report" / "index.html").read_text("utf-8")
    assert "95%: too few samples" in page
    assert "95% 0.631 to 1.000" in page
    # A finished run is read with its methods.
    (run,) = read_runs([run_dir])
    assert run.test_figure("auroc").method == "too_few"
    assert run.test_figure("accuracy").method == "clopper_pearson"

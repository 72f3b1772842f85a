from __future__ import annotations

import math
import re

import pandas as pd
import pytest

from experiments.runs.experiment import Experiment

pytestmark = pytest.mark.slow


def test_the_summary_has_the_figures_of_each_class(make_config):
    experiment = Experiment(make_config(**{"report.enabled": False, "trainer.max_epochs": 1}))
    experiment.run()
    summary = (experiment.run_dir / "summary.md").read_text("utf-8")
    table = pd.read_csv(experiment.run_dir / "predictions.csv")
    for name in ("control", "case"):
        (cells,) = re.findall(rf"^\| {name} \|(.*)\|$", summary, re.MULTILINE)
        # The precision is undefined where the class is never predicted.
        _, recall, _, support = (math.nan if "und" in c else float(c) for c in cells.split("|"))
        own = table[table["target"] == name]
        assert support == len(own)
        assert recall == pytest.approx((own["prediction"] == name).mean(), abs=1e-4)
    assert "`small.zip`" in summary


def test_the_summary_of_a_regression_has_no_classes(make_config):
    changes = {"data.task": "regression", "data.label": "BMI", "data.labels": None}
    experiment = Experiment(
        make_config(**changes, **{"report.enabled": False, "trainer.max_epochs": 1})
    )
    experiment.run()
    summary = (experiment.run_dir / "summary.md").read_text("utf-8")
    for heading in ("by class", "## Threshold", "## Calibration"):
        assert heading not in summary


def test_the_summary_has_threshold_and_calibration(make_config):
    changes = {"report.enabled": False, "trainer.max_epochs": 1}
    experiment = Experiment(make_config(**changes, **{"report.threshold": {"rule": "f1"}}))
    experiment.run()
    summary = (experiment.run_dir / "summary.md").read_text("utf-8")
    chosen, *others = experiment.findings.decisions["case"]
    assert chosen.rule == "f1"
    assert f"A sample is predicted case from a probability of {chosen.threshold:.4g}." in summary
    for point in (chosen, *others):
        values = [point.val[f] for f in ("sensitivity", "specificity")]
        values += [point.test[f] for f in ("sensitivity", "specificity", "precision", "f1")]
        row = " | ".join(f"{value:.4f}" for value in values)
        assert f"| `{point.name}` | {point.threshold:.4g} | {row} |" in summary
    found = experiment.findings.calibration
    assert found is not None
    assert f"Temperature {found.temperature:.3g}, fitted on the validation set" in summary
    assert f"| log loss | {found.before.log_loss:.4f} | {found.after.log_loss:.4f} |" in summary


def test_the_package_is_there_before_the_run_is_called_finished(make_config, monkeypatch):
    experiment = Experiment(make_config(**{"report.enabled": False, "trainer.max_epochs": 1}))
    experiment.setup()
    seen = []
    write_once = experiment.handlers.log.write_once

    def look(event, **fields):
        if event == "run_finished":
            seen.append((experiment.run_dir / "small.zip").is_file())
        write_once(event, **fields)

    monkeypatch.setattr(experiment.handlers.log, "write_once", look)
    experiment.train()
    experiment.validate()
    experiment.test()
    experiment.export()
    assert seen == [True]

from __future__ import annotations

import re

import pandas as pd
import pytest

from experiments.experiment import Experiment


def test_the_summary_tells_how_well_each_class_is_told_from_the_exported_predictions(make_config):
    experiment = Experiment(make_config(**{"report.enabled": False, "trainer.max_epochs": 1}))
    experiment.run()
    summary = (experiment.run_dir / "summary.md").read_text("utf-8")
    table = pd.read_csv(experiment.run_dir / "predictions.csv")
    for name in ("control", "case"):
        (cells,) = re.findall(rf"^\| {name} \|(.*)\|$", summary, re.MULTILINE)
        _, recall, _, support = map(float, cells.split("|"))
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
    assert "by class" not in (experiment.run_dir / "summary.md").read_text("utf-8")


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

"""Thresholds and calibration, from what the model says to what stands in the run's files."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from engine.metrics import EpochOutputs
from engine.statistics import RULES, calibrate, choose_threshold, figures_at, operating_points
from experiments.analysis.outcome import as_plain
from experiments.analysis.test_set import decide
from experiments.config import ThresholdConfig
from experiments.runs import Experiment

NAMES = {
    "binary": ["control", "case"],
    "multiclass": ["low", "middle", "high"],
    "multilabel": ["liver", "heart"],
    "regression": ["age"],
}
DECIDED = {"binary": ["case"], "regression": []}


def outputs_of(task, seed, samples=120):
    torch.manual_seed(seed)
    logits = torch.randn(samples, len(NAMES[task]))
    noisy = logits + torch.randn_like(logits)
    if task == "multilabel":
        target = (noisy > 0).float()
    else:
        target = noisy if task == "regression" else noisy.argmax(dim=1)
    return EpochOutputs(logits, target, [str(i) for i in range(samples)], {}, task)


@pytest.fixture
def tested(make_config):
    """Train and test, without the validation stage: ``tested(**changes)``."""

    def run(**changes):
        changes = {"model": {"name": "tabular_only"}, "report.enabled": False} | changes
        experiment = Experiment(make_config(**changes))
        experiment.setup()
        experiment.train()
        experiment.test()
        return experiment

    return run


@pytest.mark.parametrize("task", NAMES)
def test_what_is_decided_on_follows_the_task(task):
    outputs = {"val": outputs_of(task, 0), "test": outputs_of(task, 1)}
    decisions, calibration = decide(outputs, NAMES[task], ThresholdConfig())
    assert list(decisions) == DECIDED.get(task, NAMES[task])
    assert (calibration is None) == (task == "regression")
    for name, points in decisions.items():
        number = NAMES[task].index(name)
        sides = []
        for side in outputs.values():
            scores, target = side.probabilities[:, number].numpy(), side.target
            positive = target[:, number] == 1 if task == "multilabel" else target == number
            sides += [scores, positive.numpy()]
        assert points == operating_points(*sides)


def test_the_calibration_is_that_of_the_two_sides():
    val, test = outputs_of("multiclass", 0), outputs_of("multiclass", 1)
    _, found = decide({"val": val, "test": test}, NAMES["multiclass"], ThresholdConfig())
    expected = calibrate(val, test)
    assert found is not None
    assert expected is not None
    assert found.temperature == expected.temperature
    assert found.after.log_loss == expected.after.log_loss


def test_the_configured_rule_comes_first():
    outputs = {"val": outputs_of("binary", 0), "test": outputs_of("binary", 1)}
    chosen = ThresholdConfig(rule="fpr", demand=0.2)
    (points,) = decide(outputs, NAMES["binary"], chosen)[0].values()
    assert points[0].name == "fpr <= 0.2"
    assert 1 - points[0].val["specificity"] <= 0.2 + 1e-12


def test_nothing_is_decided_by_what_is_not_finite():
    spoilt = outputs_of("binary", 0)
    spoilt.logits[3] = math.nan
    whole = outputs_of("binary", 1)
    for outputs in ({"val": spoilt, "test": whole}, {"val": whole, "test": spoilt}):
        assert decide(outputs, NAMES["binary"], ThresholdConfig()) == ({}, None)


def test_a_label_absent_in_validation_gets_no_threshold():
    val = outputs_of("multilabel", 0)
    val.target[:, 1] = 0
    decisions, _ = decide(
        {"val": val, "test": outputs_of("multilabel", 1)}, NAMES["multilabel"], ThresholdConfig()
    )
    assert math.isnan(decisions["heart"][0].threshold)
    assert decisions["heart"][-1].threshold == 0.5
    assert 0 < decisions["liver"][0].threshold < 1


def test_in_plain_types_everything_is_json():
    outputs = {"val": outputs_of("multiclass", 0), "test": outputs_of("multiclass", 1)}
    plain = as_plain(*decide(outputs, NAMES["multiclass"], ThresholdConfig()))
    assert json.loads(json.dumps(plain)) == plain
    assert as_plain({}, None) == {"thresholds": {}, "calibration": None}


@pytest.mark.slow
def test_they_stand_in_the_metrics_of_the_run(tested):
    experiment = tested(**{"report.threshold": {"rule": "recall", "demand": 0.75}})
    written = json.loads((experiment.run_dir / "metrics.json").read_text())["test"]
    (point, *others) = written["thresholds"]["case"]
    assert (point["rule"], point["demand"]) == ("recall", 0.75)
    assert {other["rule"] for other in others} == {*RULES, "default"} - {"recall"}
    found = experiment.findings.decisions["case"][0]
    assert point["threshold"] == found.threshold
    assert point["val"]["sensitivity"] >= 0.75
    assert point["test"]["tp"] == found.test["tp"]
    calibration = experiment.findings.calibration
    assert written["calibration"]["temperature"] == calibration.temperature
    assert written["calibration"]["after"]["share"] == calibration.after.share.tolist()


@pytest.mark.slow
def test_the_threshold_is_chosen_on_validation_alone(
    make_config,
):
    config = make_config(**{"model": {"name": "tabular_only"}, "report.enabled": False})
    experiment = Experiment(config)
    experiment.run()
    val = experiment.outputs["val"]
    point = experiment.findings.decisions["case"][0]
    scores, positive = val.probabilities[:, 1].numpy(), val.target.numpy() == 1
    assert point.threshold == choose_threshold(scores, positive, "youden")
    table = pd.read_csv(experiment.run_dir / "predictions.csv")
    expected = figures_at(
        table["prob_case"].to_numpy(), np.array(table["target"] == "case"), point.threshold
    )
    assert point.test == pytest.approx(expected, nan_ok=True)


@pytest.mark.slow
def test_testing_alone_measures_validation_and_exports(tested):
    experiment = tested()
    assert experiment.findings.decisions
    by_hand = experiment.results["val"]
    assert experiment.validate() == by_hand
    experiment.export()
    assert "## Threshold" in (experiment.run_dir / "summary.md").read_text("utf-8")


@pytest.mark.slow
def test_further_training_discards_the_earlier_validation(tested):
    experiment = tested(**{"trainer.max_epochs": 1})
    before = experiment.outputs["val"]
    experiment.config.trainer.max_epochs = 3
    experiment.train()
    experiment.test()
    after = experiment.outputs["val"]
    assert not torch.equal(before.logits, after.logits)
    point = experiment.findings.decisions["case"][0]
    assert point.threshold == choose_threshold(
        after.probabilities[:, 1].numpy(), after.target.numpy() == 1
    )

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from engine.metrics import TASKS, EpochOutputs, brier, expected_calibration_error, log_loss
from engine.statistics.calibration import HIGHEST, LOWEST, calibrate, fit_temperature, reliability

WIDTH = {"binary": 2, "multiclass": 4, "multilabel": 3}


def calibrated(task, samples=20_000, seed=0, spread=1.5):
    """Logits whose probabilities are true: the targets are drawn from them."""
    torch.manual_seed(seed)
    logits = spread * torch.randn(samples, WIDTH[task])
    probabilities = TASKS[task].scores(logits)
    if task == "multilabel":
        return logits, torch.bernoulli(probabilities).float()
    return logits, torch.multinomial(probabilities, 1).squeeze(1)


def outputs_of(logits, target, task):
    return EpochOutputs(logits, target, [str(i) for i in range(len(logits))], {}, task)


@pytest.mark.parametrize("task", WIDTH)
@pytest.mark.parametrize("inflated", [0.5, 1.0, 2.0])
def test_the_factor_by_which_logits_were_inflated_is_found_back(task, inflated):
    logits, target = calibrated(task)
    assert fit_temperature(inflated * logits, target, task) == pytest.approx(inflated, rel=0.04)


@pytest.mark.parametrize("task", WIDTH)
def test_it_is_where_the_log_loss_is_least(task):
    logits, target = calibrated(task, samples=400)

    def loss(log_temperature):
        scores = TASKS[task].scores(3 * logits.double() / math.exp(log_temperature))
        return log_loss(scores, target)

    least = minimize_scalar(loss, bounds=(math.log(0.1), math.log(10)), method="bounded")
    found = fit_temperature(3 * logits, target, task)
    assert found == pytest.approx(math.exp(least.x), rel=1e-3)


@pytest.mark.parametrize("task", WIDTH)
def test_calibration_improves_and_decisions_stay(task):
    logits, target = calibrated(task, seed=1)
    val = outputs_of(2 * logits[:10_000], target[:10_000], task)
    test = outputs_of(2 * logits[10_000:], target[10_000:], task)
    found = calibrate(val, test)
    assert found is not None
    assert not found.at_limit
    assert found.after.ece < 0.5 * found.before.ece
    assert found.after.brier < found.before.brier
    assert found.after.log_loss < found.before.log_loss
    cooled = TASKS[task].scores(test.logits.double() / found.temperature)
    assert torch.equal(TASKS[task].decide(cooled), test.predictions)
    if task != "multiclass":  # of several classes a sample's own ranking stays
        assert torch.equal(cooled.argsort(dim=0), test.probabilities.argsort(dim=0))
    assert torch.equal(cooled.argsort(dim=1), test.probabilities.argsort(dim=1))


def test_the_test_side_chooses_nothing():
    logits, target = calibrated("binary", samples=2000)
    val = outputs_of(logits[:1000], target[:1000], "binary")
    for factor in (1, 5):
        test = outputs_of(factor * logits[1000:], target[1000:], "binary")
        found = calibrate(val, test)
        assert found is not None
        assert found.temperature == fit_temperature(val.logits, val.target, "binary")


@pytest.mark.parametrize("task", WIDTH)
@pytest.mark.parametrize("size", [0.1, 1.0, 1000.0])
def test_samples_that_are_all_told_apart_do_not_run_away(task, size):
    _, target = calibrated(task, samples=200)
    truth = target if task == "multilabel" else torch.nn.functional.one_hot(target, WIDTH[task])
    found = fit_temperature(size * (2.0 * truth - 1), target, task)
    assert found == LOWEST


@pytest.mark.parametrize("task", WIDTH)
def test_a_model_that_is_worse_than_chance_does_not_run_away(task):
    logits, target = calibrated(task)
    assert fit_temperature(-logits, target, task) == HIGHEST


def test_a_temperature_at_a_limit_is_called_so():
    target = torch.arange(20) % 2
    logits = 5.0 * torch.nn.functional.one_hot(target, 2)
    outputs = outputs_of(logits, target, "binary")
    found = calibrate(outputs, outputs)
    assert found is not None
    assert found.at_limit


@pytest.mark.parametrize("task", WIDTH)
def test_without_two_classes_or_without_samples_there_is_none(task):
    logits, target = calibrated(task, samples=50)
    for rows in (slice(0, 0), slice(None)):
        one_class = torch.zeros_like(target[rows])
        assert math.isnan(fit_temperature(logits[rows], one_class, task))
    spoilt = logits.clone()
    spoilt[3, 0] = math.nan
    assert math.isnan(fit_temperature(spoilt, target, task))
    whole = outputs_of(logits, target, task)
    assert calibrate(outputs_of(logits, torch.zeros_like(target), task), whole) is None
    assert calibrate(whole, outputs_of(spoilt, target, task)) is None


def test_of_classes_that_are_never_told_apart_there_is_none():
    logits = torch.randn(50, 1).expand(50, 3)
    assert math.isnan(fit_temperature(logits, torch.arange(50) % 3, "multiclass"))


def test_a_regression_has_none():
    values = torch.randn(20, 1)
    outputs = outputs_of(values, values, "regression")
    assert calibrate(outputs, outputs) is None
    with pytest.raises(ValueError, match="a regression has no probabilities"):
        fit_temperature(values, values, "regression")


@pytest.mark.parametrize("task", WIDTH)
def test_the_figures_are_the_metrics(task):
    logits, target = calibrated(task, samples=500)
    probabilities = TASKS[task].scores(2 * logits)
    found = reliability(probabilities, target)
    assert found.ece == expected_calibration_error(probabilities, target)
    assert found.brier == brier(probabilities, target)
    assert found.log_loss == log_loss(probabilities, target)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_calibration_error_is_the_mean_gap_of_the_bins(task):
    logits, target = calibrated(task, samples=500)
    probabilities = TASKS[task].scores(2 * logits)
    found = reliability(probabilities, target)
    weights = found.count / found.count.sum()
    # Of several classes torchmetrics computes in single precision.
    assert weights @ abs(found.confidence - found.share) == pytest.approx(found.ece, abs=1e-6)
    assert found.count.sum() == 500
    assert 5 < len(found.count) <= 15
    assert (np.diff(found.confidence) > 0).all()


def test_of_labels_all_decisions_are_in_the_bins():
    logits, target = calibrated("multilabel", samples=500)
    probabilities = TASKS["multilabel"].scores(logits)
    found = reliability(probabilities, target)
    assert found.count.sum() == 1500
    assert found.count @ found.confidence == pytest.approx(float(probabilities.sum()))
    assert found.count @ found.share == pytest.approx(float(target.sum()))


def test_confidences_at_bin_edges_are_counted_as_in_the_metric():
    likely = torch.tensor([0.0, 0.2, 0.2, 1.0, 1.0, 0.95], dtype=torch.float64)
    target = torch.tensor([0, 1, 0, 1, 0, 1])
    probabilities = torch.stack([1 - likely, likely], dim=1)
    found = reliability(probabilities, target)
    assert list(found.count) == [1, 2, 3]
    weights = found.count / 6
    assert weights @ abs(found.confidence - found.share) == pytest.approx(
        expected_calibration_error(probabilities, target)
    )


def test_three_of_four_right_has_the_temperature_computed_by_hand():
    logits = torch.tensor([[3.0, 0.0]] * 4 + [[0.0, 3.0]] * 4)
    target = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])
    assert fit_temperature(logits, target, "binary") == pytest.approx(2.731, abs=1e-3)


def test_bins_hold_confidence_and_observed_frequency():
    likely, target = torch.tensor([0.9, 0.9, 0.9, 0.2]), torch.tensor([1, 1, 0, 0])
    found = reliability(torch.stack([1 - likely, likely], dim=1), target)
    assert found.confidence.round(3).tolist() == [0.2, 0.9]
    assert found.share.round(3).tolist() == [0.0, 0.667]
    assert found.count.tolist() == [1, 3]

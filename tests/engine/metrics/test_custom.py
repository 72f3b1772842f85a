"""Metrics of a user's own in the engine."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy, MultilabelF1Score

from datasets.errors import UsageError
from engine import EpochMetrics, Evaluator
from engine.metrics import EpochOutputs, metric_value
from engine.metrics.custom import custom_metric, try_metric
from engine.metrics.functions import METRICS, accuracy
from engine.statistics import bootstrap_differences, bootstrap_intervals
from models.tft_loss import TFTLoss
from tests.tiny_problem import TinyLoader, TinyModel

SCORES = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]]).double()
TARGET = torch.tensor([0, 1, 1, 0])


def net_benefit(scores, target):
    called = scores[:, 1] >= 0.5
    return ((called & (target == 1)).sum() - (called & (target == 0)).sum()) / len(target)


def doubled(scores, target):
    return 2.0


class SquaredError:
    """Called as a function is."""

    def __call__(self, scores, target):
        return np.float32((scores[:, 1] - target).square().mean())


def outputs_of(*metrics, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits, target = torch.randn(40, 2, generator=generator), torch.arange(40) % 2
    custom = {metric.name: metric for metric in map(custom_metric, metrics)}
    return EpochOutputs(logits, target, [str(i) for i in range(40)], {}, "binary", custom=custom)


def test_epoch_metrics_take_functions_objects_and_torchmetrics():
    asked: list[Any] = ["auroc", net_benefit, SquaredError(), BinaryAUROC()]
    metrics = EpochMetrics(asked, task="binary")
    assert metrics.metric_names()[1:] == ["auroc", "net_benefit", "SquaredError", "BinaryAUROC"]
    found = Evaluator(TinyModel(), TFTLoss(), metrics).evaluate(TinyLoader())
    assert metrics.outputs is not None
    scores, target = metrics.outputs.scores, metrics.outputs.target
    assert found["BinaryAUROC"] == pytest.approx(found["auroc"], abs=1e-6)
    assert found["net_benefit"] == float(net_benefit(scores, target))
    assert found["SquaredError"] == pytest.approx(METRICS["brier"](scores, target), abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "reference", "task"),
    [
        (MulticlassAccuracy(num_classes=2, average="micro"), "accuracy", "binary"),
        (MulticlassAccuracy(num_classes=3, average="micro"), "accuracy", "multiclass"),
        (MultilabelF1Score(num_labels=3), "f1", "multilabel"),
        (torchmetrics.MeanAbsoluteError(), "mae", "regression"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_torchmetrics_agree_with_the_engine_in_each_task(metric, reference, task, seed):
    generator = torch.Generator().manual_seed(seed)
    width = {"binary": 2, "regression": 1}.get(task, 3)
    logits = torch.randn(60, width, generator=generator)
    target = torch.arange(60) % width
    if task == "multilabel":
        target = (torch.rand(60, width, generator=generator) > 0.5).float()
    elif task == "regression":
        target = torch.randn(60, width, generator=generator)
    custom = {"mine": custom_metric(metric, "mine")}
    outputs = EpochOutputs(logits, target, [""] * 60, {}, task, custom=custom)
    expected = metric_value(reference, outputs)
    for _ in range(2):  # nothing of the first call is left in the second
        assert metric_value("mine", outputs) == pytest.approx(expected, abs=1e-6)


def test_intervals_and_paired_differences_are_drawn():
    outputs, other = outputs_of(net_benefit), outputs_of(net_benefit, seed=1)
    interval = bootstrap_intervals(outputs, outputs.sample_id, ["net_benefit", "auroc"], 100)
    assert interval["net_benefit"].low < interval["net_benefit"].value
    assert interval["net_benefit"].value < interval["net_benefit"].high
    (found,) = bootstrap_differences([outputs, other], outputs.sample_id, ["net_benefit"], 100)
    assert found["net_benefit"].low < found["net_benefit"].high


def test_where_it_raises_a_value_error_it_is_undefined():
    def picky(scores, target):
        raise ValueError("only one class")

    metric = custom_metric(picky)
    assert np.isnan(metric(SCORES, TARGET))
    with pytest.raises(UsageError, match=r"metric 'picky' does not take .*: only one class"):
        try_metric(metric, "binary", 2)


def test_a_metric_cannot_change_what_others_are_given():
    def greedy(scores, target):
        scores.zero_()
        return target.fill_(0).sum()

    scores = SCORES.clone()
    assert custom_metric(greedy)(scores, TARGET) == 0
    assert torch.equal(scores, SCORES)


@pytest.mark.parametrize("value", [None, "0.5", torch.zeros(2), np.zeros(3), True, {"a": 1.0}, 1j])
def test_what_is_no_number_is_refused_by_its_kind(value):
    def wrong(scores, target):
        return value

    with pytest.raises(UsageError, match=r"^metric 'wrong' must return one number, not \w+"):
        custom_metric(wrong)(SCORES, TARGET)


@pytest.mark.parametrize("value", [1, 0.5, np.float64(0.5), torch.tensor(2), np.ones((1, 1))])
def test_numbers_of_every_library_are_taken(value):
    def right(scores, target):
        return value

    assert custom_metric(right)(SCORES, TARGET) == np.asarray(value).item()


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (3, "a metric must be a function .* or a torchmetrics object, not 3"),
        (BinaryAUROC, "not the class BinaryAUROC"),
        (lambda scores, target: 1.0, "has no name"),
        (accuracy, "metric 'accuracy' is called as something else is; rename it"),
    ],
)
def test_what_is_no_metric_is_refused_in_a_line(metric, message):
    with pytest.raises(UsageError, match=message) as error:
        EpochMetrics([metric])
    assert "\n" not in str(error.value)


def test_a_function_that_takes_the_target_first_is_refused():
    from sklearn.metrics import r2_score

    with pytest.raises(UsageError, match="metric 'r2_score' takes 'y_true' first"):
        custom_metric(r2_score)


def test_two_metrics_of_one_name_are_refused():
    with pytest.raises(UsageError, match="two metrics are called 'doubled'"):
        EpochMetrics([doubled, custom_metric(net_benefit, "doubled")])


def test_a_metric_called_as_a_term_of_the_loss_is_refused():
    metrics = EpochMetrics([custom_metric(doubled, "main_loss")])
    with pytest.raises(UsageError, match="metric 'main_loss' is called as a term of the loss"):
        metrics.metric_names(["total_loss", "main_loss"])


@pytest.mark.parametrize(
    ("metric", "task", "width"),
    [
        (BinaryAUROC(), "multiclass", 3),
        (MulticlassAccuracy(num_classes=4), "multiclass", 3),
        (BinaryAUROC(), "regression", 1),
        (MultilabelF1Score(num_labels=2), "binary", 2),
    ],
)
def test_a_metric_of_another_task_is_refused_when_tried(metric, task, width):
    with pytest.raises(UsageError, match=rf"does not take scores .* of {task}: |not fit {task}"):
        try_metric(custom_metric(metric), task, width)


def test_epoch_metrics_refuse_a_metric_of_another_task():
    with pytest.raises(UsageError, match=r"'BinaryAUROC' does not fit regression \(choices: bin"):
        EpochMetrics([BinaryAUROC()], task="regression")


def test_trying_draws_no_random_numbers():
    before = torch.get_rng_state()
    try_metric(custom_metric(net_benefit), "binary", 2)
    try_metric(custom_metric(functools.partial(doubled), "named"), "regression", 1)
    assert torch.equal(before, torch.get_rng_state())

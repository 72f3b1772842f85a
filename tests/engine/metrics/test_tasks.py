from __future__ import annotations

import math

import pytest
import torch

from datasets import cohort
from datasets.errors import UsageError
from engine.metrics.functions import DEMANDS, METRICS
from engine.metrics.sample_statistics import SAMPLE_STATISTICS
from engine.metrics.tasks import (
    AT_DEMAND,
    CLASSES,
    KNOWN,
    TASKS,
    Monitor,
    better_when,
    by_target,
    check_metrics,
    split_target,
    task_of,
)

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.0, 1.0]])


def test_they_are_those_that_cohorts_can_be_read_for():
    assert tuple(TASKS) == cohort.TASKS
    assert set(TASKS) - set(CLASSES) == set(cohort.SEVERAL_COLUMNS)


@pytest.mark.parametrize("name", CLASSES)
def test_of_classes_the_likeliest_is_said(name):
    scores = TASKS[name].scores(LOGITS)
    torch.testing.assert_close(scores, LOGITS.double().softmax(dim=1))
    assert TASKS[name].decide(scores).tolist() == [0, 2]


def test_of_labels_each_is_said_by_itself():
    scores = TASKS["multilabel"].scores(LOGITS)
    torch.testing.assert_close(scores, torch.sigmoid(LOGITS.double()))
    assert TASKS["multilabel"].decide(scores).tolist() == [[1, 0, 1], [0, 1, 1]]


def test_of_values_the_logits_are_what_is_said():
    task = TASKS["regression"]
    assert torch.equal(task.decide(task.scores(LOGITS)), LOGITS)


def test_scores_far_beyond_single_precision_stay_apart():
    close = torch.tensor([[0.0, 30.0], [0.0, 31.0]])
    for name in ("binary", "multilabel"):
        first, second = TASKS[name].scores(close)[:, 1]
        assert first < second < 1


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_judged_by_a_metric_of_its_own(name):
    task = TASKS[name]
    assert {metric.partition("@")[0] for metric in task.metrics} <= set(METRICS)
    assert task.monitor.removeprefix("val/") in task.metrics
    assert task.mode == better_when(task.monitor)
    check_metrics((*task.metrics, *task.further), name)


def test_the_names_of_tasks_are_those_of_all_that_can_be_computed():
    assert {name.partition("@")[0] for name in KNOWN} == {*METRICS, *SAMPLE_STATISTICS}
    assert set(AT_DEMAND) == set(DEMANDS)


def test_recall_at_fpr_is_a_default_of_two_classes_only():
    with_it = [name for name, task in TASKS.items() if "recall_at_fpr@0.05" in task.metrics]
    assert with_it == ["binary"]


def test_every_metric_is_better_in_one_direction():
    smaller = {name for name in METRICS if better_when(name) == "min"}
    assert smaller == {"mae", "mse", "rmse", "brier", "ece", "log_loss"}
    assert better_when("val/recall_at_fpr@0.05") == "max"
    assert {better_when(f"val/{name}") for name in SAMPLE_STATISTICS} == {"max"}
    assert better_when("val/my_own_metric") is None
    assert better_when("val/loss") == better_when("train/contrastive_loss") == "min"


@pytest.mark.parametrize(
    ("names", "task", "message"),
    [
        (("recall_at_fpr@1.5",), "binary", "a number from 0 to 1 was expected behind '@'"),
        (("recall_at_fpr@low",), "binary", "a number from 0 to 1 was expected behind '@'"),
        (("auroc@0.1",), "binary", "'auroc@0.1' takes no '@'"),
        (("recall_at_fprr@0.1",), None, "did you mean 'recall_at_fpr'?"),
        (("brier",), "regression", "does not fit regression"),
        (["auroc"], "regression", r"'auroc' does not fit regression \(choices: mae, mse, rmse, r2"),
        (["accuracy", "mae"], "multilabel", "'mae' does not fit multilabel .*auroc"),
        (["auroc[age]"], "regression", r"no metric is called 'auroc\[age\]'"),
        (["r2"], None, "'r2' does not fit classification .*accuracy"),
        (["effective_scanss"], "regression", "did you mean 'effective_scans'"),
        (["modality_consistensy"], None, "did you mean 'modality_consistency'"),
        (["modality_agreement"], "regression", "does not fit regression .*attention_entropy"),
        (["effective_scans@0.5"], None, "'effective_scans@0.5' takes no '@'"),
        (["maee"], "regression", "no metric is called 'maee'; did you mean 'mae'"),
        (["mae"], "regresion", "no task is called 'regresion'; did you mean 'regression'"),
    ],
)
def test_a_metric_that_does_not_fit_names_those_that_do(names, task, message):
    with pytest.raises(UsageError, match=message):
        check_metrics(tuple(names), task)


def test_two_logits_are_a_binary_classification():
    assert [task_of(torch.zeros(4, classes)) for classes in (2, 3)] == ["binary", "multiclass"]


@pytest.mark.parametrize(
    ("mode", "value", "best", "min_delta", "better"),
    [
        ("max", 0.9, 0.8, 0.0, True),
        ("max", 0.8, 0.8, 0.0, False),
        ("max", 0.81, 0.8, 0.02, False),
        ("min", 0.5, 0.6, 0.0, True),
        ("min", 0.6, 0.5, 0.0, False),
        ("max", math.nan, 0.1, 0.0, False),
        ("max", 0.1, math.nan, 0.0, True),
        ("max", 0.1, None, 0.0, True),
        ("max", math.nan, None, 0.0, False),
        ("min", -math.inf, 0.0, 0.0, True),
        ("max", -math.inf, 0.0, 0.0, False),
    ],
)
def test_what_counts_as_better(mode, value, best, min_delta, better):
    assert Monitor("val/x", mode, "test").is_better(value, best, min_delta) is better


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val/auroc", "max"),
        ("val/loss", "min"),
        ("val/mae", "min"),
        ("x/recall_at_fpr@0.1", "max"),
    ],
)
def test_the_mode_follows_from_the_metric(name, mode):
    assert Monitor(name, None, "test").mode == mode
    assert Monitor(name, "max", "test").mode == "max"


def test_a_metric_of_ones_own_has_to_state_its_mode():
    with pytest.raises(UsageError, match=r"early_stopping.monitor: of 'val/mine' .*mode to max or"):
        Monitor("val/mine", None, "early_stopping")
    with pytest.raises(UsageError, match=r"did you mean 'val/auroc'"):
        Monitor("val/aurok", None, "early_stopping")
    assert Monitor("val/mine", "min", "early_stopping").mode == "min"


def test_a_mode_that_is_neither_is_refused():
    with pytest.raises(UsageError, match=r"checkpoint.mode.*did you mean 'max'"):
        Monitor("val/auroc", "maxx", "checkpoint")


def test_errors_are_per_target_and_r2_over_all_too():
    names = by_target(["mae", "r2"], ["age", "BMI"])
    assert names == ["mae[age]", "mae[BMI]", "r2", "r2[age]", "r2[BMI]"]
    assert split_target("mae[age [y]]") == ("mae", "age [y]")
    assert split_target("val/r2") == ("val/r2", None)


def test_smaller_is_better_for_losses_and_errors():
    names = ("val/auroc", "val/aux_spec_loss", "val/mae[a/b]")
    assert [better_when(name) for name in names] == ["max", "min", "min"]
    assert Monitor("val/loss", "min", "early_stopping").is_better(0.5, 0.6)
    assert Monitor("val/auroc", None, "checkpoint").is_better_epoch(0.9, 0.4, (0.9, 0.5))

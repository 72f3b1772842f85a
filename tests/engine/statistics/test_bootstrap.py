from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from datasets.errors import UsageError
from engine.metrics import TASKS, EpochOutputs, by_target, metric_value
from engine.statistics.bootstrap import (
    Interval,
    bootstrap_intervals,
    group_resamples,
    groups_of_rarest,
    groups_of_share,
    percentile_interval,
    proportion_bounds,
)


def classified(target, logits, task=""):
    names = [f"s{i}" for i in range(len(target))]
    return EpochOutputs(torch.as_tensor(logits).float(), torch.as_tensor(target), names, {}, task)


def some(samples=60, classes=2, seed=0):
    """Outputs that are right more often than not."""
    rng = np.random.default_rng(seed)
    target = rng.integers(classes, size=samples)
    return classified(target, rng.normal(size=(samples, classes)) + np.eye(classes)[target])


def rightly(right):
    """Outputs of which the given are right."""
    right = np.asarray(right, dtype=int)
    target = np.arange(len(right)) % 2
    return classified(target, np.eye(2)[np.where(right, target, 1 - target)])


def single(outputs):
    return list(outputs.sample_id)


def width(interval):
    return interval.high - interval.low


def task_outputs(task):
    rng = np.random.default_rng(1)
    if task in ("binary", "multiclass"):
        return some(classes=2 if task == "binary" else 4)
    target = rng.normal(size=(60, 3)) if task == "regression" else rng.integers(2, size=(60, 3))
    logits = target + 0.5 * rng.normal(size=(60, 3)) - (task == "multilabel") * 0.5
    return classified(target.astype(np.float32), logits, task)


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_of_a_task_lies_between_its_bounds(task):
    outputs = task_outputs(task)
    names = by_target(TASKS[task].metrics, outputs.target_names if task == "regression" else ())
    found = bootstrap_intervals(outputs, single(outputs), names, resamples=200)
    assert list(found) == names
    for name, interval in found.items():
        assert interval.value == metric_value(name, outputs)
        assert interval.low < interval.value < interval.high
        assert interval.resamples == 200


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_of_an_accuracy_is_close_to_the_binomial(level):
    outputs = rightly(np.arange(400) % 5 != 0)
    found = bootstrap_intervals(outputs, single(outputs), ["accuracy"], 4000, level)["accuracy"]
    share = 0.8
    quantile = {0.8: 1.2816, 0.95: 1.9600}[level]
    reach = quantile * math.sqrt(share * (1 - share) / 400)
    assert found.low == pytest.approx(share - reach, abs=0.004)
    assert found.high == pytest.approx(share + reach, abs=0.004)


@pytest.mark.slow
def test_repeated_samples_within_groups_narrow_nothing():
    once = some(40)
    five = classified(once.target.repeat(5), once.logits.repeat(5, 1))
    metrics = ["accuracy", "auroc", "auprc"]
    alone = bootstrap_intervals(once, single(once), metrics)
    grouped = bootstrap_intervals(five, single(once) * 5, metrics)
    apart = bootstrap_intervals(five, single(five), metrics)
    for name in metrics:
        assert grouped[name].low == pytest.approx(alone[name].low, abs=1e-12)
        assert grouped[name].high == pytest.approx(alone[name].high, abs=1e-12)
        # The error of N independent samples falls with the root of N.
        assert width(alone[name]) / width(apart[name]) == pytest.approx(5**0.5, rel=0.15)


def test_groups_of_unequal_size_come_whole():
    outputs = rightly(np.repeat([0, 1], [3, 1]))
    groups = ["big", "big", "big", "small"]
    # Both small, one of each, or both big: accuracies of 1, 1/4 and 0, every second time 1/4.
    drawn = group_resamples(groups, 1000, seed=0)
    values = np.array([metric_value("accuracy", outputs, rows) for rows in drawn])
    for level, bounds in ((0.4, (0.25, 0.25)), (0.6, (0.0, 1.0))):
        found = percentile_interval(0.25, values, level)
        assert (found.low, found.high) == bounds


@pytest.mark.slow
def test_intervals_of_groups_have_the_stated_coverage():
    """30 patients of 8 scans, of which a patient's are right together more or less often."""
    rng = np.random.default_rng(5)
    covered = {"grouped": 0, "single": 0}
    trials = 200
    for trial in range(trials):
        chance = np.repeat(rng.beta(1.4, 0.6, size=30), 8)  # 0.7 on average
        outputs = rightly(rng.random(240) < chance)
        patients = np.repeat(np.arange(30), 8).astype(str).tolist()
        for name, groups in {"grouped": patients, "single": single(outputs)}.items():
            found = bootstrap_intervals(outputs, groups, ["accuracy"], 100, 0.9, trial)["accuracy"]
            covered[name] += found.low <= 0.7 <= found.high
    # 0.9 within three standard errors; scan by scan it promises far too much.
    assert covered["grouped"] / trials == pytest.approx(0.9, abs=3 * math.sqrt(0.9 * 0.1 / trials))
    assert covered["single"] / trials < 0.75


@pytest.mark.slow
def test_the_order_of_the_samples_has_no_part():
    outputs = some()
    groups = [f"p{i % 20}" for i in range(60)]
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    shuffled = classified(outputs.target[order], outputs.logits[order])
    metrics = ["accuracy", "f1", "auroc"]
    ours = bootstrap_intervals(outputs, groups, metrics)
    theirs = bootstrap_intervals(shuffled, [groups[i] for i in order], metrics)
    for name in metrics:
        assert ours[name].low == pytest.approx(theirs[name].low, abs=1e-12)
        assert ours[name].high == pytest.approx(theirs[name].high, abs=1e-12)


def test_resamples_do_not_depend_on_the_other_metrics():
    outputs = some()
    both = bootstrap_intervals(outputs, single(outputs), ["f1", "auroc"], 100)
    assert both["auroc"] == bootstrap_intervals(outputs, single(outputs), ["auroc"], 100)["auroc"]


def test_resamples_follow_the_seed_and_no_global_stream():
    outputs = some()

    def streams():
        return torch.rand(1).item(), np.random.rand(), random.random()

    def seed_all():
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)

    seed_all()
    untouched = streams()
    seed_all()
    first = bootstrap_intervals(outputs, single(outputs), ["auroc"], 100, seed=7)
    assert streams() == untouched
    assert first == bootstrap_intervals(outputs, single(outputs), ["auroc"], 100, seed=7)
    assert first != bootstrap_intervals(outputs, single(outputs), ["auroc"], 100, seed=8)


def test_resamples_without_a_class_are_left_out():
    logits = np.random.default_rng(0).normal(size=(30, 2))
    outputs = classified([1] + [0] * 29, logits)
    found = bootstrap_intervals(outputs, single(outputs), ["accuracy", "auroc"], 2000)
    # The one positive is missing from (29 / 30) ** 30 of the resamples.
    assert found["auroc"].resamples / 2000 == pytest.approx(1 - (29 / 30) ** 30, abs=0.04)
    assert found["auroc"].method == "too_few"
    assert found["accuracy"].resamples == 2000


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_undefined_values_of_resamples_are_not_zeros(name):
    # One positive, found, in thirty: where it is not drawn there is nothing to find or to miss.
    outputs = classified([1] + [0] * 29, np.eye(2)[[1] + [0] * 29])
    found = bootstrap_intervals(outputs, single(outputs), [name], 2000)[name]
    assert found.value == 1
    assert found.resamples / 2000 == pytest.approx(1 - (29 / 30) ** 30, abs=0.04)


def test_sample_statistics_are_means_over_the_drawn_samples():
    outputs = some(400)
    scans = torch.from_numpy(np.random.default_rng(0).normal(4, 1, 400))
    unknown = torch.full((400,), math.nan)
    kept = {"effective_scans": scans, "modality_consistency": unknown}
    found = bootstrap_intervals(replace(outputs, of_samples=kept), single(outputs), list(kept))
    interval, error = found["effective_scans"], float(scans.std()) / 20
    assert interval.value == pytest.approx(float(scans.mean()))
    assert interval.low == pytest.approx(interval.value - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(interval.value + 1.96 * error, abs=0.2 * error)
    assert math.isnan(found["modality_consistency"].value)
    assert found["modality_consistency"].resamples == 0


def test_bounds_need_half_of_the_resamples():
    # Each class in a patient of its own: 6 of 27 resamples hold all three.
    outputs = classified([0, 0, 1, 1, 2, 2], np.eye(3)[[0, 1, 1, 1, 2, 0]])
    groups = ["a", "a", "b", "b", "c", "c"]
    found = bootstrap_intervals(outputs, groups, ["accuracy", "auroc"], 2000)
    assert math.isfinite(found["auroc"].value)
    assert math.isnan(found["auroc"].low)
    assert math.isnan(found["auroc"].high)
    assert found["auroc"].resamples / 2000 == pytest.approx(6 / 27, abs=0.04)
    assert found["accuracy"].low < found["accuracy"].high


def test_a_single_group_says_nothing_about_others():
    outputs = some()
    found = bootstrap_intervals(outputs, ["p1"] * 60, ["accuracy"])["accuracy"]
    assert found.value == metric_value("accuracy", outputs)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.resamples == 0


@pytest.mark.parametrize(
    "outputs",
    [
        classified([1] * 10, np.random.default_rng(0).normal(size=(10, 2))),
        classified([0, 1] * 5, np.where(np.eye(10)[:, :2] > 0, np.nan, 1.0)),
    ],
    ids=["one class", "diverged scores"],
)
def test_what_is_undefined_has_no_bounds(outputs):
    found = bootstrap_intervals(outputs, single(outputs), ["auroc"], 50)["auroc"]
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.resamples == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ["aurocc"]}, "no metric is called 'aurocc'; did you mean 'auroc'"),
        ({"metrics": ["rmse"]}, "metric 'rmse' does not fit binary"),
        ({"metrics": ["effective_scans"]}, "metric 'effective_scans' was not kept"),
        ({"groups": ["a", "b"]}, "2 groups for 60 samples: expected one a sample"),
        ({"resamples": 39}, "resamples: a whole number at least 40 was expected, not 39"),
        ({"resamples": 19, "level": 0.9}, "at least 20 was expected, not 19"),
        ({"level": 95}, "level: a number above 0 and below 1 was expected, not 95"),
        ({"seed": -1}, "seed: a whole number at least 0 was expected, not -1"),
    ],
)
def test_what_cannot_be_used_is_named(settings, message):
    outputs = some()
    usable = {"groups": single(outputs), "metrics": ["auroc"]}
    with pytest.raises(UsageError, match=message):
        bootstrap_intervals(outputs, **{**usable, **settings})


@pytest.mark.parametrize("level", [0, 1, -0.5, True, "0.95", math.nan])
def test_a_level_is_a_share(level):
    outputs = some()
    with pytest.raises(UsageError, match="above 0 and below 1"):
        bootstrap_intervals(outputs, single(outputs), ["auroc"], level=level)


# -- few samples ------------------------------------------------------------------------------


def test_a_perfect_share_of_8_samples_is_not_certain():
    outputs = rightly([1] * 8)
    metrics = ["accuracy", "precision", "recall", "recall_at_fpr@0.05"]
    found = bootstrap_intervals(outputs, single(outputs), metrics, 200)
    for name, count in zip(metrics, (8, 4, 4, 4), strict=True):
        exact = binomtest(count, count).proportion_ci(method="exact")
        assert (found[name].low, found[name].high) == pytest.approx((exact.low, exact.high))
        assert found[name].method == "clopper_pearson"


@pytest.mark.parametrize("name", ["auroc", "auprc", "f1", "mcc", "balanced_accuracy"])
def test_a_perfect_ranking_is_too_few_to_tell(name):
    outputs = rightly([1] * 100)
    found = bootstrap_intervals(outputs, single(outputs), [name], 100)[name]
    assert found.value == 1
    assert math.isnan(found.low)
    assert found.method == "too_few"


def test_samples_of_a_group_count_as_one():
    outputs = rightly([1] * 40)
    groups = [f"p{i // 10}" for i in range(40)]
    found = bootstrap_intervals(outputs, groups, ["accuracy"], 100)["accuracy"]
    exact = binomtest(4, 4).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_many_that_are_all_right_still_leave_doubt():
    outputs = rightly([1] * 200)
    found = bootstrap_intervals(outputs, single(outputs), ["accuracy"], 100)["accuracy"]
    assert found.low == pytest.approx(0.025 ** (1 / 200))
    assert found.high == 1


def test_nine_of_a_class_are_too_few_for_a_ranking():
    rng = np.random.default_rng(0)
    for count, method in ((9, "too_few"), (10, "bootstrap")):
        target = np.arange(60) < count
        outputs = classified(target.astype(int), rng.normal(size=(60, 2)))
        found = bootstrap_intervals(outputs, single(outputs), ["auroc"], 200)["auroc"]
        assert found.method == method
        assert math.isnan(found.low) == (method == "too_few")


def test_a_rare_label_makes_means_over_labels_unsure():
    outputs = task_outputs("multilabel")
    outputs.target[:, 1] = 0
    outputs.target[:4, 1] = 1
    found = bootstrap_intervals(outputs, single(outputs), ["auroc", "accuracy", "brier"], 100)
    methods = {name: interval.method for name, interval in found.items()}
    assert methods == {"auroc": "too_few", "accuracy": "bootstrap", "brier": "bootstrap"}


def test_constant_errors_of_a_regression_are_too_few_to_tell():
    target = np.random.default_rng(0).normal(size=(30, 1))
    outputs = classified(target.astype(np.float64), target + 0.5, "regression")
    outputs = replace(outputs, logits=outputs.target + 0.5)
    found = bootstrap_intervals(outputs, single(outputs), ["mae", "mse", "r2"], 100)
    methods = {name: interval.method for name, interval in found.items()}
    assert methods == {"mae": "too_few", "mse": "too_few", "r2": "bootstrap"}


def test_a_proportion_of_one_has_a_lower_bound():
    assert proportion_bounds(1.0, 8) == pytest.approx((0.631, 1.0), abs=1e-3)


def test_groups_are_counted_in_a_share_or_of_the_rarest_class():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    outputs = EpochOutputs(logits, torch.tensor([0, 1, 1]), list("abc"), {})
    assert groups_of_share("recall", outputs, ["p1", "p2", "p2"]) == 1
    assert groups_of_share("auroc", outputs, ["p1", "p2", "p2"]) is None
    assert groups_of_rarest("auroc", outputs, ["p1", "p2", "p3"]) == 1


def test_groups_are_drawn_with_all_their_samples():
    drawn = [rows.tolist() for rows in group_resamples(["p1", "p2", "p2"], 3, seed=0)]
    assert drawn == [[1, 1, 2, 2], [0, 1, 2], [0, 0]]


def test_an_interval_lies_between_quantiles():
    found = percentile_interval(0.5, np.array([0.0, 0.25, 0.5, 0.75, 1.0]), level=0.5)
    assert found == Interval(0.5, 0.25, 0.75, 5, "bootstrap")

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, mean_absolute_error, roc_auc_score

from datasets.errors import UsageError
from engine.metrics import TASKS, by_target
from engine.statistics.bootstrap import bootstrap_intervals
from engine.statistics.paired_tests import bootstrap_differences, holm, mcnemar_test
from tests.experiments.report.made_outputs import make_outputs

NAN = math.nan


def rights(only_a, only_b, both=5, neither=3):
    a = [True] * (only_a + both) + [False] * (only_b + neither)
    b = [False] * only_a + [True] * (both + only_b) + [False] * neither
    return torch.tensor(a), torch.tensor(b)


@pytest.mark.parametrize(("only_a", "only_b"), [(9, 2), (2, 9), (4, 4), (1, 0), (30, 12)])
def test_mcnemar_is_the_tails_of_fair_coins_for_those_that_one_alone_is_right_about(only_a, only_b):
    found = mcnemar_test(*rights(only_a, only_b))
    tosses, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(tosses, k) for k in range(fewer + 1)) / 2**tosses
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))


def test_samples_that_both_or_neither_are_right_about_tell_nothing():
    few, many = mcnemar_test(*rights(9, 2)), mcnemar_test(*rights(9, 2, both=500, neither=100))
    assert few == many
    assert mcnemar_test(*rights(0, 0)).p_value == 1


def test_decisions_about_other_samples_are_refused():
    with pytest.raises(UsageError, match=r"shape \[3\] and \[2\]: expected \[N\]"):
        mcnemar_test(torch.ones(3, dtype=torch.bool), torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),
        ([0.04, 0.01, 0.03], [0.06, 0.03, 0.06]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([NAN, 0.01, 0.5, NAN], [NAN, 0.02, 0.5, NAN]),
        ([], []),
    ],
)
def test_holm_corrects_each_by_the_tests_that_are_left(given, corrected):
    assert holm(given) == pytest.approx(corrected, nan_ok=True)


# -- differences ------------------------------------------------------------------------------


def pair(task, samples=60):
    """A model, and one that knows more, on the same samples."""
    outputs = make_outputs(task, samples)
    target = outputs.target
    if task == "regression":
        known = target
    else:
        known = torch.eye(outputs.logits.shape[1])[target] if target.ndim == 1 else 2 * target
    return outputs, replace(outputs, logits=(outputs.logits + known) / 2)


def singly(outputs):
    return list(outputs.sample_id)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_metric_of_every_task_has_a_difference_within_its_bounds(task):
    first, other = pair(task)
    names = by_target(TASKS[task].metrics, first.targets)
    (found,) = bootstrap_differences([first, other], singly(first), names, 200)
    own = [bootstrap_intervals(o, singly(first), names, 200) for o in (first, other)]
    for name, interval in found.items():
        assert interval.value == pytest.approx(own[1][name].value - own[0][name].value)
        assert interval.low <= interval.value <= interval.high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name", "measure"),
    [
        ("binary", "auroc", lambda true, by: roc_auc_score(true, by[:, 1])),
        ("multiclass", "accuracy", lambda true, by: accuracy_score(true, by.argmax(axis=1))),
        ("regression", "mae[BMI]", lambda true, by: mean_absolute_error(true[:, 1], by[:, 1])),
    ],
)
def test_all_models_are_measured_on_the_same_groups_of_each_resample(task, name, measure):
    first, other = pair(task)
    groups = [f"g{number // 4}" for number in range(60)]
    (found,) = bootstrap_differences([first, other], groups, [name], 300, seed=3)
    # The same draws once more, measured by scikit-learn.
    rng, apart = np.random.default_rng(3), []
    members = [np.flatnonzero(np.array(groups) == group) for group in sorted(set(groups))]
    for _ in range(300):
        rows = np.concatenate([members[g] for g in rng.integers(15, size=15)])
        a, b = (measure(o.target.numpy()[rows], o.scores.numpy()[rows]) for o in (first, other))
        apart.append(b - a)
    assert [found[name].low, found[name].high] == pytest.approx(np.quantile(apart, [0.025, 0.975]))
    assert found[name].resamples == 300


def test_what_is_hard_for_both_cancels():
    first, other = pair("binary")
    nearly = replace(first, logits=first.logits + 0.05 * other.logits)
    (found,) = bootstrap_differences([first, nearly], singly(first), ["auroc"])
    alone = bootstrap_intervals(first, singly(first), ["auroc"])["auroc"]
    assert found["auroc"].high - found["auroc"].low < 0.3 * (alone.high - alone.low)


def test_a_model_does_not_differ_from_itself():
    first, other = pair("multilabel")
    same, better = bootstrap_differences([first, first, other], singly(first), ["auroc"], 100)
    assert (same["auroc"].value, same["auroc"].low, same["auroc"].high) == (0, 0, 0)
    assert better["auroc"].low > 0


def test_nothing_is_known_of_one_group_or_of_weights_that_diverged():
    first, other = pair("binary")
    (found,) = bootstrap_differences([first, other], ["all"] * 60, ["auroc"])
    assert found["auroc"].value > 0
    assert math.isnan(found["auroc"].low)
    diverged = replace(first, logits=first.logits * NAN)
    (found,) = bootstrap_differences([first, diverged], singly(first), ["auroc"], 100)
    assert math.isnan(found["auroc"].value)
    assert math.isnan(found["auroc"].low)


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"sample_id": [f"other{i}" for i in range(60)]}, {}, "only be compared on the same"),
        ({"target": torch.zeros(60, dtype=torch.long)}, {}, "only be compared on the same"),
        ({}, {"metrics": ["mae"]}, "'mae' does not fit binary"),
        ({}, {"groups": ["all"]}, "1 groups for 60 samples"),
        ({}, {"resamples": 3}, "resamples must be a whole number, at least 40"),
        ({}, {"level": 2}, "level must be a share"),
    ],
)
def test_what_cannot_be_compared_is_said(changes, settings, words):
    first, other = pair("binary")
    given = {"groups": singly(first), "metrics": ["auroc"]} | settings
    with pytest.raises(UsageError, match=words):
        bootstrap_differences([first, replace(other, **changes)], **given)

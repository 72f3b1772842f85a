from __future__ import annotations

import math
from dataclasses import astuple, replace
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, mean_absolute_error, roc_auc_score

from datasets.errors import UsageError
from engine.metrics import TASKS, EpochOutputs, by_target
from engine.statistics.bootstrap import Interval, bootstrap_intervals
from engine.statistics.paired_tests import (
    McNemar,
    bootstrap_differences,
    delong_test,
    holm,
    mcnemar_test,
)
from tests.experiments.report.made_outputs import make_outputs

NORMAL = NormalDist()
cdf = np.vectorize(NORMAL.cdf)


def direct(scores, target):
    """DeLong's placement values, pair by pair: of the positives [m], of the negatives [n]."""
    positives, negatives = scores[target == 1], scores[target == 0]
    above = positives[:, None] > negatives[None, :]
    wins = above + 0.5 * (positives[:, None] == negatives[None, :])
    return wins.mean(axis=1), wins.mean(axis=0)


def direct_covariance(all_scores, target):
    """Of the areas of several models, from the 2 x 2 matrices S10 and S01 of the paper."""
    placements = [direct(scores, target) for scores in all_scores]
    s10 = np.cov([v10 for v10, _ in placements])
    s01 = np.cov([v01 for _, v01 in placements])
    return s10 / (target == 1).sum() + s01 / (target == 0).sum()


def tied(seed, samples=80, steps=12):
    """Two models' scores of few distinct values, related to the target and to each other."""
    rng = np.random.default_rng(seed)
    target = (rng.random(samples) < 0.4).astype(int)
    target[:4] = 0, 0, 1, 1
    shared = rng.normal(size=samples)
    both = [(0.8 * target + shared + rng.normal(size=samples)) for _ in range(2)]
    scores = [np.round(steps * cdf(one)) / steps for one in both]
    return torch.from_numpy(scores[0]), torch.from_numpy(scores[1]), torch.from_numpy(target)


@pytest.mark.parametrize("seed", range(20))
def test_with_ties_it_is_what_the_placement_values_give_directly(seed):
    a, b, target = tied(seed)
    found = delong_test(a, b, target, level=0.9)
    covariance = direct_covariance([a.numpy(), b.numpy()], target.numpy())
    areas = [direct(s.numpy(), target.numpy())[0].mean() for s in (a, b)]
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    reach = NORMAL.inv_cdf(0.95) * error
    apart = areas[0] - areas[1]
    p_value = 2 * NORMAL.cdf(-abs(apart) / error)
    expected = (*areas, apart, apart - reach, apart + reach, p_value)
    assert astuple(found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_the_area_is_scikit_learns_whatever_is_tied(samples):
    scores = np.array([score for score, _ in samples]) / 6
    target = np.array([is_positive for _, is_positive in samples])
    target[:2] = True, False  # both must occur
    found = delong_test(
        torch.from_numpy(scores), torch.zeros(len(scores)), torch.from_numpy(target)
    )
    assert found.auc_a == pytest.approx(roc_auc_score(target, scores), abs=1e-12)


@pytest.mark.slow
def test_p_values_of_equal_models_are_uniform():
    rng = np.random.default_rng(11)
    target = torch.from_numpy((np.arange(200) % 3 == 0).astype(int))
    p_values = []
    for _ in range(1000):
        # Correlated models: as if they were independent, p would hardly ever be small.
        seen = target.numpy() + rng.normal(size=200)
        a, b = (torch.from_numpy(seen + 0.7 * rng.normal(size=200)) for _ in range(2))
        p_values.append(delong_test(a, b, target).p_value)
    # Kolmogorov and Smirnov's distance, at the 1 % level (1.63 / sqrt(N)).
    ordered, ideal = np.sort(p_values), np.arange(1, 1001) / 1000
    assert max((ideal - ordered).max(), (ordered - ideal + 0.001).max()) < 1.63 / math.sqrt(1000)
    assert np.mean(ordered < 0.05) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 1000))


@pytest.mark.slow
def test_the_interval_covers_the_true_area_as_often_as_it_says():
    rng = np.random.default_rng(2)
    target = torch.from_numpy(np.repeat([0, 1], [90, 60]))
    true_area = NORMAL.cdf(1 / math.sqrt(2))  # of two normals one standard deviation apart
    covered = 0
    for _ in range(1000):
        scores = target.double() + torch.from_numpy(rng.normal(size=150))
        # A constant score has no variance: the difference from it has that of the area.
        found = delong_test(scores, torch.zeros(150), target, level=0.9)
        covered += found.low <= true_area - 0.5 <= found.high
    assert covered / 1000 == pytest.approx(0.9, abs=3 * math.sqrt(0.9 * 0.1 / 1000))


def test_a_model_that_is_really_better_is_found_so():
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.integers(2, size=300))
    poor = 0.3 * target + torch.from_numpy(rng.normal(size=300))
    found = delong_test(2.0 * target + torch.from_numpy(rng.normal(size=300)), poor, target)
    assert found.p_value < 1e-6
    assert 0 < found.low < found.difference < found.high


def test_exchanging_the_models_turns_the_difference_round():
    a, b, target = tied(3)
    one, other = delong_test(a, b, target), delong_test(b, a, target)
    assert (one.auc_a, one.auc_b) == (other.auc_b, other.auc_a)
    assert (one.difference, one.low, one.high) == (-other.difference, -other.high, -other.low)
    assert one.p_value == other.p_value < 1


def test_only_the_ranks_of_scores_count():
    a, b, target = tied(4)
    assert delong_test(a.exp() * 1e6, b**3, target) == delong_test(a, b, target)
    assert delong_test(a.float(), b.float(), target.bool()) == delong_test(a, b, target)


def test_models_that_rank_alike_do_not_differ():
    scores, _, target = tied(5)
    found = delong_test(scores, 2 * scores - 1, target)
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_variance_of_nothing_is_no_certainty():
    target = torch.tensor([0, 0, 0, 1, 1, 1])
    perfect, constant = torch.arange(6), torch.zeros(6)
    for scores, area in ((perfect, 1.0), (constant, 0.5), (-perfect, 0.0)):
        assert delong_test(scores, constant, target).auc_a == area
    found = delong_test(perfect, constant, target)
    assert found.difference == 0.5
    assert math.isnan(found.p_value)
    assert math.isnan(found.low)


def test_a_constant_difference_in_thirds_has_exactly_no_variance():
    target = torch.tensor([0, 0, 0, 1, 1, 1])
    negatives = torch.tensor([0.0, 1.0, 2.0])
    # By the first model each positive beats one negative more.
    a = torch.cat([negatives, negatives + 0.5])
    b = torch.cat([negatives, negatives - 0.5])
    found = delong_test(a, b, target)
    assert found.difference == pytest.approx(1 / 3)
    assert math.isnan(found.p_value)
    assert math.isnan(found.low)


def test_bounds_stay_where_an_area_can_be():
    scores = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9])
    target = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    assert delong_test(scores, -scores, target, level=0.999).high == 1.0


@pytest.mark.parametrize("only", [0, 1])
def test_with_one_class_missing_nothing_is_defined(only):
    target = torch.full((6,), only)
    assert all(math.isnan(v) for v in astuple(delong_test(torch.rand(6), torch.rand(6), target)))


@pytest.mark.filterwarnings("error")
def test_one_sample_of_a_class_gives_an_area_without_bounds():
    target = torch.tensor([0, 1, 0, 0])
    scores = torch.tensor([0.1, 0.3, 0.5, 0.2])
    found = delong_test(scores, torch.tensor([4, 3, 2, 1]), target)
    assert found.auc_a == pytest.approx(2 / 3)
    assert math.isnan(found.low)
    assert math.isnan(found.p_value)
    assert delong_test(scores, scores, target).p_value == 1.0


def test_a_diverged_model_has_no_area_the_other_has():
    a, b, target = tied(6)
    found = delong_test(a, b.clone().fill_(math.nan), target)
    assert found.auc_a == delong_test(a, b, target).auc_a
    assert all(math.isnan(value) for value in astuple(found)[1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": torch.tensor([0, 1, 2, 1])}, "a target of DeLong's test is 0 or 1, not 2"),
        ({"scores_b": torch.rand(3)}, r"scores of shape \[3\] for a target of shape \[4\]"),
        ({"scores_a": torch.rand(4, 2)}, r"scores of shape \[4, 2\] .* the positive class"),
        ({"level": 1.0}, "level: a number above 0 and below 1"),
    ],
)
def test_what_cannot_be_compared_is_named(changes, message):
    usable = {"scores_a": torch.rand(4), "scores_b": torch.rand(4)}
    target = torch.tensor([0, 1, 0, 1])
    with pytest.raises(UsageError, match=message):
        delong_test(**{**usable, "target": target, **changes})


NAN = math.nan


def rights(only_a, only_b, both=5, neither=3):
    a = [True] * (only_a + both) + [False] * (only_b + neither)
    b = [False] * only_a + [True] * (both + only_b) + [False] * neither
    return torch.tensor(a), torch.tensor(b)


@pytest.mark.parametrize(("only_a", "only_b"), [(9, 2), (2, 9), (4, 4), (1, 0), (30, 12)])
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    found = mcnemar_test(*rights(only_a, only_b))
    tosses, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(tosses, k) for k in range(fewer + 1)) / 2**tosses
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))


def test_samples_on_which_both_models_agree_do_not_count():
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
def test_every_metric_has_a_difference_within_its_bounds(task):
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
def test_all_models_see_the_same_resamples(task, name, measure):
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


@pytest.mark.slow
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


def test_one_group_or_diverged_weights_have_no_bounds():
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
        ({}, {"resamples": 3}, "resamples: a whole number at least 40"),
        ({}, {"level": 2}, "level: a number above 0 and below 1"),
    ],
)
def test_what_cannot_be_compared_is_said(changes, settings, words):
    first, other = pair("binary")
    given = {"groups": singly(first), "metrics": ["auroc"]} | settings
    with pytest.raises(UsageError, match=words):
        bootstrap_differences([first, replace(other, **changes)], **given)


def test_eight_samples_compare_as_published_formulas_do():
    target = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    good = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9])
    poor = torch.tensor([0.4, 0.2, 0.6, 0.7, 0.1, 0.3, 0.8, 0.9])
    found = delong_test(good, poor, target)
    assert (found.auc_a, found.auc_b, round(found.p_value, 2)) == (0.9375, 0.5625, 0.1)


def test_six_against_none_is_an_exact_binomial_test():
    right_a = torch.tensor([True] * 9 + [False])
    right_b = torch.tensor([True] * 3 + [False] * 7)
    assert mcnemar_test(right_a, right_b) == McNemar(6, 0, 0.03125)


def test_a_paired_difference_has_bounds():
    target, names = torch.tensor([0, 1, 1, 1] * 3), list("abcdefghijkl")
    right = EpochOutputs(2.0 * torch.eye(2)[target], target, names, {})
    poor = EpochOutputs(2.0 * torch.eye(2)[[1, 1, 0, 0] * 3], target, names, {})
    (found,) = bootstrap_differences([right, poor], names, ["accuracy"])
    assert found["accuracy"] == Interval(-0.75, -1.0, -0.5, 1000, "bootstrap")


def test_holm_leaves_out_a_test_that_was_not_possible():
    corrected = holm([0.01, 0.04, 0.03, math.nan])
    assert corrected == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)

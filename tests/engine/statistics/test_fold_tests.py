from __future__ import annotations

import math

import pytest
import torch
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from datasets.errors import UsageError
from engine.metrics import EpochOutputs
from engine.statistics import (
    bootstrap_differences,
    bootstrap_p_values,
    corrected_interval,
    corrected_t_test,
    delong_test,
)


def test_the_corrected_test_is_that_of_scikit_learns_guide():
    """Its example "Statistical comparison of models using grid search"."""
    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    rbf, linear = (
        cross_val_score(SVC(kernel=kernel, random_state=0), x, y, scoring="roc_auc", cv=folds)
        for kernel in ("rbf", "linear")
    )
    t, p = corrected_t_test(list(rbf - linear), test_share=10 / 90)
    assert round(t, 3) == 0.750
    assert round(p / 2, 3) == 0.227


def test_the_corrected_test_by_hand():
    # Mean 2, variance 1, of three: t = 2 / sqrt((1/3 + 1/2) * 1); with two degrees of freedom
    # p = 1 - t / sqrt(t^2 + 2).
    t, p = corrected_t_test([1.0, 2.0, math.nan, 3.0], test_share=0.5)
    assert t == pytest.approx(2 / math.sqrt(5 / 6))
    assert p == pytest.approx(1 - t / math.sqrt(t**2 + 2))


def test_the_interval_of_a_mean_ends_at_zero_where_the_test_says_05():
    values, level = [1.0, 2.0, 3.0], 0.9
    found = corrected_interval(values, test_share=0.5, level=level)
    moved = [value - found.low for value in values]
    assert corrected_t_test(moved, test_share=0.5)[1] == pytest.approx(1 - level)
    assert found.value == 2.0
    assert found.high - 2.0 == pytest.approx(2.0 - found.low)
    assert math.isnan(corrected_interval([1.0], 0.5).low)


def test_what_cannot_be_tested_over_folds_is_undefined():
    assert all(map(math.isnan, corrected_t_test([0.1], 0.25)))
    assert all(map(math.isnan, corrected_t_test([0.1, 0.1], 0.25)))
    assert corrected_t_test([0.0, 0.0], 0.25) == (0.0, 1.0)
    with pytest.raises(UsageError, match="above 0"):
        corrected_t_test([0.1, 0.2], 0.0)


def made(skill: float, seed: int) -> EpochOutputs:
    target = torch.arange(80) % 2
    noise = torch.randn(80, 2, generator=torch.Generator().manual_seed(seed))
    logits = skill * torch.eye(2)[target] + noise
    return EpochOutputs(logits, target, [str(n) for n in range(80)], {})


def test_the_bootstraps_p_value_agrees_with_its_interval_and_with_delong():
    groups = [str(n) for n in range(80)]
    for skill, seed in ((0.1, 1), (0.7, 2), (1.2, 3), (2.5, 4)):
        pair = [made(1.0, 0), made(skill, seed)]
        p = bootstrap_p_values(pair, groups, "auroc", 1000)[0]
        found = bootstrap_differences(pair, groups, ["auroc"], 1000)[0]["auroc"]
        assert (p < 0.05) == (found.low > 0 or found.high < 0)
        delong = delong_test(pair[1].scores[:, 1], pair[0].scores[:, 1], pair[0].target).p_value
        assert p == pytest.approx(delong, abs=0.05)


def test_equal_models_do_not_differ():
    pair = [made(1.0, 0), made(1.0, 0)]
    assert bootstrap_p_values(pair, [str(n % 20) for n in range(80)], "auroc", 100) == [1.0]

"""Weights of stacked models, for every task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from models.stacking import mean_loss, stack_weights

SAMPLES = 400
Made = tuple[np.ndarray, np.ndarray, np.ndarray]


def made(task: str) -> Made:
    """Logits or values that are true but for their scale, noise alike, and drawn targets."""
    rng = np.random.default_rng(0)
    width = {"binary": 2, "multiclass": 4, "multilabel": 3, "regression": 2}[task]
    truth, noise = rng.normal(size=(2, SAMPLES, width))
    if task == "regression":
        return truth / 2, noise, truth + 0.1 * rng.normal(size=truth.shape)
    if task == "multilabel":
        return truth, noise, (rng.random(truth.shape) < expit(2 * truth)).astype(np.float32)
    targets = (2 * truth + rng.gumbel(size=truth.shape)).argmax(axis=1)
    return truth, noise, targets


def known_loss(scores: np.ndarray, targets: np.ndarray, task: str) -> float:
    """scikit-learn's, where it has one."""
    if task == "regression":
        return float(0.5 * ((scores - targets) ** 2).sum() / SAMPLES)
    if task == "multilabel":
        columns = zip(targets.T, expit(scores).T, strict=True)
        return sum(log_loss(label, found, labels=[0, 1]) for label, found in columns)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return float(log_loss(targets, odds / odds.sum(axis=1, keepdims=True)))


def objective(
    task: str, targets: np.ndarray, *logits: np.ndarray
) -> Callable[[np.ndarray, np.ndarray], float]:
    def value(weights: np.ndarray, bias: np.ndarray) -> float:
        scores = sum(weight * each for weight, each in zip(weights, logits, strict=True)) + bias
        return SAMPLES * known_loss(scores, targets, task) + 0.5 * ((weights - 1) ** 2).sum()

    return value


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_no_other_weights_or_bias_are_better(task: str) -> None:
    truth, noise, targets = made(task)
    both = truth, 0.5 * truth + noise
    weights, bias = stack_weights(both, targets, task)
    value = objective(task, targets, *both)
    least = value(weights, bias)
    rng = np.random.default_rng(1)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(20):
            other = np.maximum(weights + size * rng.normal(size=2), 0)
            assert value(other, bias + size * rng.normal(size=bias.shape)) > least - 1e-5


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_a_useless_model_gets_no_weight_and_the_true_one_its_scale(task: str) -> None:
    truth, noise, targets = made(task)
    (right, useless), bias = stack_weights([truth, noise], targets, task)
    assert right == pytest.approx(2, abs=0.35)
    assert useless < 0.15
    assert stack_weights([-truth], targets, task)[0] == 0
    assert np.abs(bias).max() < 0.3


def test_a_bias_makes_up_for_a_wrong_base_rate() -> None:
    truth, _, targets = made("multilabel")
    _, bias = stack_weights([truth + np.array([3, 0, -3])], targets, "multilabel")
    assert bias[0] < -3 < 3 < bias[2]


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_what_is_added_to_a_base_keeps_its_bounds(task: str) -> None:
    truth, noise, targets = made(task)
    settings: dict[str, Any] = {"toward": 0.0, "most": 1.0, "bias": False}
    useless, _ = stack_weights([noise], targets, task, base=2 * truth, **settings)
    whole, bias = stack_weights([truth], targets, task, base=0 * truth, **settings)
    half, _ = stack_weights([truth], targets, task, base=1.5 * truth, **settings)
    assert useless < 0.1 < half < 0.9
    assert whole == 1
    assert not bias.any()


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_the_mean_loss_is_scikit_learns(task: str) -> None:
    truth, _, targets = made(task)
    expected = known_loss(truth, targets, task)
    assert mean_loss(truth, targets, task) == pytest.approx(expected)

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from engine.metric_functions import (
    CLASSIFICATION_METRICS,
    FURTHER_METRICS,
    METRICS,
    REGRESSION_METRICS,
    find_metric,
)

REFERENCE = {
    "accuracy": lambda p, y: sk.accuracy_score(y, p.argmax(1)),
    "precision": lambda p, y: sk.precision_score(y, p.argmax(1), **_average(p)),
    "recall": lambda p, y: sk.recall_score(y, p.argmax(1), **_average(p)),
    "f1": lambda p, y: sk.f1_score(y, p.argmax(1), **_average(p)),
    "auroc": lambda p, y: (
        sk.roc_auc_score(y, p[:, 1])
        if p.shape[1] == 2
        else sk.roc_auc_score(y, p, multi_class="ovr")
    ),
    "auprc": lambda p, y: (
        sk.average_precision_score(y, p[:, 1])
        if p.shape[1] == 2
        else sk.average_precision_score(y, p)
    ),
}

MACRO = {"average": "macro", "zero_division": 0}
OF_LABELS = {
    "accuracy": lambda p, y: 1 - sk.hamming_loss(y, p >= 0.5),
    "precision": lambda p, y: sk.precision_score(y, p >= 0.5, **MACRO),
    "recall": lambda p, y: sk.recall_score(y, p >= 0.5, **MACRO),
    "f1": lambda p, y: sk.f1_score(y, p >= 0.5, **MACRO),
    "auroc": lambda p, y: sk.roc_auc_score(y, p, average="macro"),
    "auprc": lambda p, y: sk.average_precision_score(y, p, average="macro"),
}

OF_VALUES = {
    "mae": sk.mean_absolute_error,
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    "r2": sk.r2_score,
}


def _average(p):
    return {"average": "binary" if p.shape[1] == 2 else "macro", "zero_division": 0}


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", sorted(CLASSIFICATION_METRICS))
def test_of_classes_they_agree_with_scikit_learn(name, classes):
    rng = np.random.default_rng(classes)
    target = rng.integers(classes, size=200)
    logits = rng.normal(size=(200, classes)) + 1.5 * np.eye(classes)[target]
    probabilities = torch.from_numpy(logits).softmax(dim=1)
    ours = METRICS[name](probabilities, torch.from_numpy(target))
    assert ours == pytest.approx(REFERENCE[name](probabilities.numpy(), target), abs=1e-6)


@pytest.mark.parametrize("labels", [1, 2, 5])
@pytest.mark.parametrize("name", sorted(CLASSIFICATION_METRICS))
def test_of_labels_they_are_scikit_learns_mean_over_the_labels(name, labels):
    rng = np.random.default_rng(labels)
    target = (rng.random((200, labels)) < np.linspace(0.1, 0.7, labels)).astype(np.float32)
    probabilities = torch.from_numpy(rng.normal(size=(200, labels)) + 2 * target - 1).sigmoid()
    ours = METRICS[name](probabilities.double(), torch.from_numpy(target))
    # For one column scikit-learn sees a plain binary problem, of which it is the mean too.
    reference = OF_LABELS[name](probabilities.double().numpy(), target)
    if labels == 1 and name in ("precision", "recall", "f1"):
        score = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
        reference = score[name](target[:, 0], probabilities[:, 0].numpy() >= 0.5)
    assert ours == pytest.approx(reference, abs=1e-6)


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("name", sorted(REGRESSION_METRICS))
def test_of_values_they_agree_with_scikit_learn(name, targets):
    rng = np.random.default_rng(targets)
    target = rng.normal([10.0, -3.0, 1e4][:targets], [2.0, 0.1, 50.0][:targets], (80, targets))
    predictions = target + rng.normal(size=(80, targets))
    ours = METRICS[name](torch.from_numpy(predictions), torch.from_numpy(target))
    assert ours == pytest.approx(OF_VALUES[name](target, predictions), rel=1e-9)


@pytest.mark.parametrize("name", ["auroc", "auprc"])
def test_ranking_with_one_class_is_undefined(name):
    scores = torch.rand(6, 2).softmax(dim=1)
    assert math.isnan(METRICS[name](scores, torch.ones(6, dtype=torch.long)))
    for missing in (torch.zeros(6, 1), torch.ones(6, 1)):
        target = torch.cat([torch.tensor([[0.0], [1.0]] * 3), missing], dim=1)
        assert math.isnan(METRICS[name](scores, target))


def test_tied_scores_count_half():
    assert METRICS["auroc"](torch.full((4, 2), 0.5), torch.tensor([0, 1, 0, 1])) == 0.5


def test_r2_without_anything_to_explain_is_undefined():
    assert math.isnan(METRICS["r2"](torch.rand(5, 2), torch.tensor([[1.0, 2.0]] * 5)))
    assert math.isnan(METRICS["r2"](torch.rand(1, 1), torch.ones(1, 1)))


# -- those that are asked for ---------------------------------------------------------------


def _rates(p, y, column):
    return sk.roc_curve(y == column, p[:, column], drop_intermediate=False)[:2]


def _over_classes(of_class, p):
    return np.mean([of_class(c) for c in ([1] if p.shape[1] == 2 else range(p.shape[1]))])


FURTHER = {
    "balanced_accuracy": lambda p, y: sk.balanced_accuracy_score(y, p.argmax(1)),
    "mcc": lambda p, y: sk.matthews_corrcoef(y, p.argmax(1)),
    "brier": lambda p, y: (
        sk.brier_score_loss(y, p[:, 1])
        if p.shape[1] == 2
        else np.mean(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1))
    ),
    "log_loss": lambda p, y: sk.log_loss(y, p),
    "ece": lambda p, y: _calibration_error(p, y),
    "recall_at_fpr": lambda p, y: _over_classes(
        lambda c: max(t for f, t in zip(*_rates(p, y, c), strict=True) if f <= 0.1), p
    ),
    "specificity_at_sensitivity": lambda p, y: _over_classes(
        lambda c: max(1 - f for f, t in zip(*_rates(p, y, c), strict=True) if t >= 0.9), p
    ),
}


def _calibration_error(p, y, bins=15):
    sure = p[:, 1] if p.shape[1] == 2 else p.max(axis=1)
    right = y if p.shape[1] == 2 else p.argmax(axis=1) == y
    bin_of = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [
        (bin_of == b).mean() * abs(sure[bin_of == b].mean() - right[bin_of == b].mean())
        for b in np.unique(bin_of)
    ]
    return sum(gaps)


def drawn(classes, samples=300):
    rng = np.random.default_rng(classes)
    target = rng.integers(classes, size=samples)
    logits = rng.normal(size=(samples, classes)) + 1.5 * np.eye(classes)[target]
    return torch.from_numpy(logits).softmax(dim=1), torch.from_numpy(target)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", sorted(FURTHER_METRICS))
def test_the_further_ones_agree_with_scikit_learn(name, classes):
    probabilities, target = drawn(classes)
    ours = METRICS[name](probabilities, target)
    assert ours == pytest.approx(FURTHER[name](probabilities.numpy(), target.numpy()), abs=1e-6)


@pytest.mark.parametrize("name", sorted(FURTHER_METRICS))
def test_of_labels_the_further_ones_are_the_mean_over_the_labels(name):
    columns = [drawn(2) for _ in range(2)]
    flipped = columns[1][0].flip(1), columns[1][1]
    each = [METRICS[name](*pair) for pair in (columns[0], flipped)]
    scores = torch.stack([columns[0][0][:, 1], flipped[0][:, 1]], dim=1)
    labels = torch.stack([columns[0][1], flipped[1]], dim=1).float()
    assert METRICS[name](scores, labels) == pytest.approx(sum(each) / 2, abs=1e-6)


@pytest.mark.parametrize("name", ["recall_at_fpr", "specificity_at_sensitivity"])
def test_a_demand_is_set_behind_the_name(name):
    probabilities, target = drawn(2)
    usual = {"recall_at_fpr": "0.1", "specificity_at_sensitivity": "0.9"}[name]
    assert find_metric(f"{name}@{usual}")(probabilities, target) == METRICS[name](
        probabilities, target
    )
    assert find_metric(f"{name}@0.5")(probabilities, target) != METRICS[name](probabilities, target)


@pytest.mark.parametrize(
    "name", ["balanced_accuracy", "mcc", "recall_at_fpr", "specificity_at_sensitivity"]
)
def test_with_one_class_the_further_ones_are_undefined(name):
    probabilities, _ = drawn(2)
    assert math.isnan(METRICS[name](probabilities, torch.ones(300, dtype=torch.long)))


def test_a_correlation_with_what_is_always_said_is_undefined():
    constant = torch.tensor([[0.3, 0.7]] * 4)
    assert math.isnan(METRICS["mcc"](constant, torch.tensor([0, 1, 0, 1])))


def test_being_certain_and_wrong_has_a_finite_loss():
    probabilities = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert METRICS["log_loss"](probabilities, torch.tensor([1])) == pytest.approx(36.04, abs=0.01)

"""Every entry of the registry beside scikit-learn, on what is usual and on what is degenerate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from engine.metrics import METRICS, REGRESSION_METRICS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")

SCORES = {"zero_division": math.nan, "average": None}


# -- scikit-learn's values ---------------------------------------------------------------------
#
# Of probabilities p [N, C], classes y [N] and predicted classes [N]. Where scikit-learn leaves what
# is undefined out of a mean, the mean is undefined here; where it gives a number by convention
# although a class is missing, it is undefined, too.


def _classes(p):
    return [1] if p.shape[1] == 2 else range(p.shape[1])


def _counted(score):
    return lambda p, y, predicted: np.mean(score(y, predicted, labels=_classes(p), **SCORES))


def _ranked(score):
    def mean(p, y, predicted):
        each = [(y == c, p[:, c]) for c in _classes(p)]
        return np.mean([score(*pair) if len(set(pair[0])) == 2 else math.nan for pair in each])

    return mean


def _calibration_error(p, y, predicted, bins=15):
    sure, right = (p[:, 1], y) if p.shape[1] == 2 else (p.max(axis=1), (predicted == y).astype(int))
    share, confidence = calibration_curve(right, sure, n_bins=bins)
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], sure))
    return np.abs(share - confidence) @ counts[counts > 0] / len(y)


def _correlation(p, y, predicted):
    varied = len(set(y)) > 1 and len(set(predicted)) > 1
    return sk.matthews_corrcoef(y, predicted) if varied else math.nan


def _recall_at_fpr(y, p, fpr=0.1):
    false, true, _ = sk.roc_curve(y, p, drop_intermediate=False)
    return max(true[false <= fpr])


def _specificity_at_sensitivity(y, p, sensitivity=0.9):
    false, true, _ = sk.roc_curve(y, p, drop_intermediate=False)
    return max(1 - false[true >= sensitivity])


OF_CLASSES = {
    "accuracy": lambda p, y, predicted: sk.accuracy_score(y, predicted),
    "precision": _counted(sk.precision_score),
    "recall": _counted(sk.recall_score),
    "f1": _counted(sk.f1_score),
    "auroc": _ranked(sk.roc_auc_score),
    "auprc": _ranked(sk.average_precision_score),
    "balanced_accuracy": lambda p, y, predicted: np.mean(
        sk.recall_score(y, predicted, labels=range(p.shape[1]), **SCORES)
    ),
    "mcc": _correlation,
    "brier": lambda p, y, predicted: sk.brier_score_loss(y, p, labels=range(p.shape[1])),
    "log_loss": lambda p, y, predicted: sk.log_loss(y, p, labels=range(p.shape[1])),
    "ece": _calibration_error,
    "recall_at_fpr": _ranked(_recall_at_fpr),
    "specificity_at_sensitivity": _ranked(_specificity_at_sensitivity),
}
OF_VALUES = {
    "mae": sk.mean_absolute_error,
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    # Where nothing varies, or a single sample does, scikit-learn gives 0, 1 or NaN.
    "r2": lambda y, p: sk.r2_score(y, p) if (np.ptp(y, axis=0) > 0).all() else math.nan,
}


def expected(name, scores, target):
    if name in OF_VALUES:
        return OF_VALUES[name](target, scores)
    if target.ndim == 1:
        return OF_CLASSES[name](scores, target, scores.argmax(axis=1))
    # Of labels the mean over them, each of which is there or not.
    return np.mean(
        [
            OF_CLASSES[name](np.stack([1 - p, p], axis=1), y.astype(int), (p >= 0.5).astype(int))
            for p, y in zip(scores.T, target.T, strict=True)
        ]
    )


# -- scores and targets -------------------------------------------------------------------------


def _softmax(logits):
    return torch.from_numpy(np.asarray(logits, dtype=float)).softmax(dim=1).numpy()


def drawn(classes, samples=200, seed=0):
    rng = np.random.default_rng(seed)
    target = np.concatenate([np.arange(classes), rng.integers(classes, size=samples - classes)])
    return _softmax(rng.normal(size=(samples, classes)) + 1.5 * np.eye(classes)[target]), target


def drawn_labels(labels, samples=200):
    rng = np.random.default_rng(labels)
    target = (rng.random((samples, labels)) < np.linspace(0.2, 0.7, labels)).astype(np.float32)
    return 1 / (1 + np.exp(-rng.normal(size=(samples, labels)) - 2 * target + 1)), target


def drawn_values(targets, samples=80):
    rng = np.random.default_rng(targets)
    target = rng.normal([10.0, -3.0, 1e4][:targets], [2.0, 0.1, 50.0][:targets], (samples, targets))
    return target + rng.normal(size=target.shape), target


def never_predicted(scores, number):
    scores = scores.copy()
    scores[:, number] = 0
    return scores / scores.sum(axis=1, keepdims=True)


TWO, TWO_TARGET = drawn(2)
FOUR, FOUR_TARGET = drawn(4)
LABELS, LABELS_TARGET = drawn_labels(3)
VALUES, VALUES_TARGET = drawn_values(3)
ALL_THERE, NONE_THERE = LABELS_TARGET.copy(), LABELS_TARGET.copy()
ALL_THERE[:, 1], NONE_THERE[:, 1] = 1, 0
ONE_CONSTANT = VALUES_TARGET.copy()
ONE_CONSTANT[:, 1] = 0.1
# A class instead of the last of four.
WITHOUT_LAST = np.where(FOUR_TARGET == 3, 0, FOUR_TARGET)

# What needs both: those that have a label and those that have not, or several classes.
RANKED = {"auroc", "auprc", "recall_at_fpr", "specificity_at_sensitivity"}
BOTH = RANKED | {"balanced_accuracy", "mcc"}
# Scores, targets, and the metrics that are undefined of them.
CASES = {
    "two classes": (TWO, TWO_TARGET, set()),
    "four classes": (FOUR, FOUR_TARGET, set()),
    "ties": (np.stack([1 - TWO[:, 1].round(1), TWO[:, 1].round(1)], axis=1), TWO_TARGET, set()),
    "ties of four": (_softmax(np.log(FOUR).round()), FOUR_TARGET, set()),
    "certain": (np.eye(2)[(TWO[:, 1] > 0.5).astype(int)], TWO_TARGET, set()),
    "certain and nearly so": (
        np.array([[0, 1], [0.04, 0.96], [0.96, 0.04], [1, 0]]),
        np.array([0, 1, 0, 1]),
        set(),
    ),
    "certain and right": (np.eye(4)[FOUR_TARGET], FOUR_TARGET, set()),
    "certain and wrong": (np.eye(4)[3 - FOUR_TARGET], FOUR_TARGET, set()),
    "constant, a tie": (np.full((200, 2), 0.5), TWO_TARGET, {"precision", "mcc"}),
    "constant": (np.tile([0.3, 0.7], (200, 1)), TWO_TARGET, {"mcc"}),
    "constant of four": (np.full((200, 4), 0.25), FOUR_TARGET, {"precision", "mcc"}),
    "all positive": (TWO, np.ones(200, int), BOTH),
    "all negative": (TWO, np.zeros(200, int), BOTH | {"recall"}),
    "all negative and predicted so": (
        np.tile([0.7, 0.3], (200, 1)),
        np.zeros(200, int),
        BOTH | {"recall", "precision", "f1"},
    ),
    "one class of four": (FOUR, np.full(200, 2), BOTH | {"recall"}),
    "a class of four is missing": (
        FOUR,
        WITHOUT_LAST,
        RANKED | {"balanced_accuracy", "recall"},
    ),
    "a class of four is never predicted": (never_predicted(FOUR, 3), FOUR_TARGET, {"precision"}),
    "a class of four is missing and never predicted": (
        never_predicted(FOUR, 3),
        WITHOUT_LAST,
        RANKED | {"balanced_accuracy", "recall", "precision", "f1"},
    ),
    "one sample, found": (np.array([[0.2, 0.8]]), np.array([1]), BOTH),
    "one sample, missed": (np.array([[0.8, 0.2]]), np.array([1]), BOTH | {"precision"}),
    "one sample of four": (FOUR[:1], np.array([1]), BOTH | {"recall", "precision", "f1"}),
    "one label": (*drawn_labels(1), set()),
    "labels": (LABELS, LABELS_TARGET, set()),
    "ties of labels": (LABELS.round(1), LABELS_TARGET, set()),
    "constant of labels": (np.full((200, 3), 0.5), LABELS_TARGET, {"mcc"}),
    "a label is always there": (LABELS, ALL_THERE, BOTH),
    "a label is never there": (LABELS, NONE_THERE, BOTH | {"recall"}),
    "a label is never predicted": (LABELS * [1, 0.4, 1], LABELS_TARGET, {"precision", "mcc"}),
    "one sample with labels": (np.array([[0.9, 0.6]]), np.array([[1.0, 1.0]]), BOTH),
    "values": (VALUES, VALUES_TARGET, set()),
    "one value": (*drawn_values(1), set()),
    "ties of values": (VALUES.round(1), VALUES_TARGET.round(1), set()),
    "constant predictions": (np.zeros((80, 3)), VALUES_TARGET, set()),
    "exact predictions": (VALUES_TARGET, VALUES_TARGET, set()),
    "a value is the same in all": (VALUES, ONE_CONSTANT, {"r2"}),
    "one sample with values": (VALUES[:1], VALUES_TARGET[:1], {"r2"}),
}
OF_REGRESSION = [name for name in CASES if "value" in name or "predictions" in name]
PAIRS = [
    (metric, case)
    for metric in METRICS
    for case in CASES
    if (metric in REGRESSION_METRICS) == (case in OF_REGRESSION)
]


@pytest.mark.parametrize(("metric", "case"), PAIRS)
def test_a_metric_is_scikit_learns_or_undefined(metric, case):
    scores, target, undefined = CASES[case]
    ours = METRICS[metric](torch.from_numpy(scores), torch.from_numpy(target))
    assert isinstance(ours, float)
    assert math.isnan(ours) == (metric in undefined)
    # Of errors, which may be large, to 1e-6 of them.
    assert ours == pytest.approx(expected(metric, scores, target), rel=1e-6, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("seed", range(40))
def test_of_any_few_samples_too(seed):
    rng = np.random.default_rng(seed)
    classes, samples = rng.integers(2, 5), rng.integers(1, 9)
    target = rng.integers(classes, size=samples)
    scores = _softmax(rng.integers(3, size=(samples, classes)))
    for name in OF_CLASSES:
        ours = METRICS[name](torch.from_numpy(scores), torch.from_numpy(target))
        reference = expected(name, scores, target)
        assert ours == pytest.approx(reference, abs=1e-6, nan_ok=True), name


def test_rankings_of_several_classes_are_scikit_learns():
    scores, target = torch.from_numpy(FOUR), torch.from_numpy(FOUR_TARGET)
    areas = sk.roc_auc_score(FOUR_TARGET, FOUR, multi_class="ovr")
    assert METRICS["auroc"](scores, target) == pytest.approx(areas, abs=1e-6)
    precisions = sk.average_precision_score(FOUR_TARGET, FOUR)
    assert METRICS["auprc"](scores, target) == pytest.approx(precisions, abs=1e-6)

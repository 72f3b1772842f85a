from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from engine.metrics.functions import (
    DEMANDS,
    METRICS,
    area_under_roc,
    average_precision,
    find_metric,
    recall_at_fpr,
)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_the_areas_are_scikit_learns_whatever_is_tied(samples):
    scores = np.array([score for score, _ in samples]) / 6
    positive = np.array([is_positive for _, is_positive in samples])
    positive[:2] = True, False  # both must occur
    given_ = torch.from_numpy(scores), torch.from_numpy(positive)
    assert area_under_roc(*given_) == pytest.approx(roc_auc_score(positive, scores))
    assert average_precision(*given_) == pytest.approx(average_precision_score(positive, scores))


def test_a_column_of_a_matrix_is_ranked_as_a_copy_of_it_is():
    scores, positive = torch.rand(50, 3), torch.arange(50) % 3 == 0
    for area in (area_under_roc, average_precision):
        assert area(scores[:, 1], positive) == area(scores[:, 1].clone(), positive)


def drawn(classes, samples=300):
    rng = np.random.default_rng(classes)
    target = rng.integers(classes, size=samples)
    logits = rng.normal(size=(samples, classes)) + 1.5 * np.eye(classes)[target]
    return torch.from_numpy(logits).softmax(dim=1), torch.from_numpy(target)


def test_tied_scores_count_half():
    assert METRICS["auroc"](torch.full((4, 2), 0.5), torch.tensor([0, 1, 0, 1])) == 0.5


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1", "mcc"])
def test_a_label_is_said_to_be_there_from_one_half_on(name):
    scores, target = torch.tensor([[0.5], [0.4999]]), torch.tensor([[1.0], [0.0]])
    assert METRICS[name](scores, target) == 1.0


@pytest.mark.parametrize(
    ("name", "value"), [("precision", math.nan), ("recall", 0.0), ("f1", 0.0), ("mcc", math.nan)]
)
def test_what_is_never_said_has_a_recall_but_no_precision(name, value):
    never, target = torch.tensor([[0.9, 0.1]] * 4), torch.tensor([0, 1, 0, 1])
    assert METRICS[name](never, target) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("value", [0.1, 1e-30, 1e30, -7.3])
@pytest.mark.parametrize("samples", [1, 7, 49])
def test_r2_of_a_constant_target_is_undefined(value, samples):
    assert math.isnan(METRICS["r2"](torch.rand(samples, 1), torch.full((samples, 1), value)))
    several = torch.stack([torch.arange(samples + 1.0), torch.full((samples + 1,), value)], dim=1)
    assert math.isnan(METRICS["r2"](torch.rand(samples + 1, 2), several))


@pytest.mark.parametrize("name", DEMANDS)
def test_a_demand_is_set_behind_the_name(name):
    probabilities, target = drawn(2)
    usual = {"recall_at_fpr": "0.1", "specificity_at_sensitivity": "0.9"}[name]
    assert find_metric(f"{name}@{usual}")(probabilities, target) == METRICS[name](
        probabilities, target
    )
    assert find_metric(f"{name}@0.5")(probabilities, target) != METRICS[name](probabilities, target)


def test_being_certain_and_wrong_has_a_finite_loss():
    probabilities = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert METRICS["log_loss"](probabilities, torch.tensor([1])) == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "auprc"])
def test_of_two_classes_the_second_is_the_one_to_be_found(name):
    probabilities, target = drawn(2)
    labels = METRICS[name](probabilities[:, 1:], target[:, None].float())
    assert METRICS[name](probabilities, target) == pytest.approx(labels, abs=1e-12)
    assert METRICS[name](probabilities.flip(1), 1 - target) != pytest.approx(labels, abs=1e-3)


def test_a_demand_bounds_the_false_positives():
    scores, positive = torch.tensor([0.9, 0.8, 0.3, 0.1]), torch.tensor([1, 0, 1, 0])
    assert recall_at_fpr(scores, positive, 0.0) == 0.5
    assert recall_at_fpr(scores, positive, 0.5) == 1.0
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert find_metric("recall_at_fpr@0.5")(probabilities, torch.arange(3) % 2) == 1.0

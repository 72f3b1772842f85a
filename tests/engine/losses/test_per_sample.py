from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Categorical
from torch.nn import functional

from datasets.errors import UsageError
from engine.losses.per_sample import (
    BinaryCrossEntropy,
    CrossEntropy,
    FocalLoss,
    HuberLoss,
    MeanSquaredError,
    NegativeEntropy,
    OutputNorm,
)

torch.manual_seed(0)
LOGITS, CLASSES = torch.randn(16, 3), torch.arange(16) % 3
WORD: Any = "balancd"
LABELS = (torch.randn(16, 3) > 0.5).float()


def value(loss, logits, targets):
    return loss({"logits": logits}, targets)["total_loss"]


def test_class_weights_and_smoothing_are_those_of_torch():
    loss = CrossEntropy(label_smoothing=0.1, class_weights=[1.0, 2.0, 3.0])
    expected = functional.cross_entropy(
        LOGITS, CLASSES, weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1
    )
    assert torch.equal(value(loss, LOGITS, CLASSES), expected)


def test_smoothing_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"label_smoothing: a number at least 0 and below 1"):
        CrossEntropy(label_smoothing=1.0)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_of_classes_is_the_published_formula(gamma):
    alpha = [0.2, 0.5, 0.3]
    p = LOGITS.double().softmax(dim=1).numpy()[np.arange(16), CLASSES]
    expected = (-np.array(alpha)[CLASSES] * (1 - p) ** gamma * np.log(p)).mean()
    assert float(value(FocalLoss(gamma, alpha), LOGITS, CLASSES)) == pytest.approx(expected)


@pytest.mark.parametrize("alpha", [0.25, [0.1, 0.5, 0.9]])
def test_focal_of_labels_is_the_published_formula(alpha):
    p = LOGITS.double().sigmoid().numpy()
    y = LABELS.numpy()
    p_true = np.where(y == 1, p, 1 - p)
    factor = np.where(y == 1, alpha, 1 - np.array(alpha))
    expected = (-factor * (1 - p_true) ** 2 * np.log(p_true)).mean()
    assert float(value(FocalLoss(alpha=alpha), LOGITS, LABELS)) == pytest.approx(expected)


def test_one_alpha_is_of_class_1_of_two():
    logits, target = LOGITS[:, :2], CLASSES % 2
    both = value(FocalLoss(alpha=[0.25, 0.75]), logits, target)
    assert torch.allclose(value(FocalLoss(alpha=0.75), logits, target), both)
    with pytest.raises(UsageError, match="one number a class, there are 3"):
        value(FocalLoss(alpha=0.75), LOGITS, CLASSES)


def test_without_focus_focal_is_the_cross_entropy():
    plain = functional.cross_entropy(LOGITS, CLASSES)
    torch.testing.assert_close(value(FocalLoss(gamma=0), LOGITS, CLASSES), plain)
    plain = functional.binary_cross_entropy_with_logits(LOGITS, LABELS)
    torch.testing.assert_close(value(FocalLoss(gamma=0), LOGITS, LABELS), plain)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_focal_has_a_finite_gradient_where_the_model_is_sure(gamma):
    for target in (torch.tensor([0]), torch.tensor([[1.0, 0.0]])):
        logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
        value(FocalLoss(gamma), logits, target).backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


def test_binary_cross_entropy_weighs_what_is_there():
    weights = torch.tensor([1.0, 4.0, 0.5])
    p = LOGITS.double().sigmoid()
    expected = -(weights * LABELS * p.log() + (1 - LABELS) * (1 - p).log()).mean()
    ours = value(BinaryCrossEntropy([1.0, 4.0, 0.5]), LOGITS, LABELS)
    assert float(ours) == pytest.approx(float(expected))
    with pytest.raises(UsageError, match=r"logits have shape \[16, 3\], targets \[16, 1\]"):
        value(BinaryCrossEntropy(), LOGITS, LABELS[:, :1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FocalLoss(gamma=-1), "gamma: a number at least 0"),
        (lambda: FocalLoss(alpha=1.5), "alpha: a number above 0 and below 1"),
        (lambda: FocalLoss(alpha=[1.0, -1.0]), "alpha must be numbers from 0"),
        (lambda: BinaryCrossEntropy(pos_weight=WORD), "pos_weight must be numbers from 0"),
        (lambda: CrossEntropy(class_weights=WORD), "class_weights must be numbers from 0"),
    ],
)
def test_parameters_out_of_their_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


VALUES = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
TARGETS = torch.tensor([[0.5, -2.0], [1.0, 9.0]])  # off by 0.5, 4, 0, 10


def test_squared_errors_are_averaged_over_samples_and_targets():
    loss = MeanSquaredError()({"logits": VALUES}, TARGETS)["total_loss"]
    assert loss.item() == pytest.approx((0.25 + 16 + 0 + 100) / 4)


def test_huber_grows_straight_beyond_delta():
    loss = HuberLoss(delta=2.0)({"logits": VALUES}, TARGETS)["total_loss"]
    small, large = 0.5 * 0.25, [2 * (error - 1) for error in (4, 10)]
    assert loss.item() == pytest.approx((small + sum(large)) / 4)
    with pytest.raises(ValueError, match=r"delta: a number above 0"):
        HuberLoss(delta=0)


@pytest.mark.parametrize("loss", [MeanSquaredError(), HuberLoss()])
def test_values_are_never_broadcast_against_targets(loss):
    with pytest.raises(UsageError, match=r"shape \[2, 1\], targets \[2, 2\]"):
        loss({"logits": VALUES[:, :1]}, TARGETS)


SEVEN_LOGITS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


def test_entropy_is_torchs_of_classes_and_of_labels():
    of_classes = NegativeEntropy()({"logits": SEVEN_LOGITS}, torch.zeros(7, dtype=torch.long))
    expected = -Categorical(logits=SEVEN_LOGITS).entropy().mean()
    torch.testing.assert_close(of_classes["total_loss"], expected)
    of_labels = NegativeEntropy()({"logits": SEVEN_LOGITS}, torch.zeros(7, 3))
    expected = -Bernoulli(logits=SEVEN_LOGITS).entropy().mean()
    torch.testing.assert_close(of_labels["total_loss"], expected)


@pytest.mark.parametrize("targets", [torch.zeros(7, dtype=torch.long), torch.zeros(7, 3)])
def test_less_of_it_makes_predictions_less_sure(targets):
    logits = SEVEN_LOGITS.clone().requires_grad_()
    NegativeEntropy()({"logits": logits}, targets)["total_loss"].backward()
    assert logits.grad is not None
    calmer = SEVEN_LOGITS - 0.1 * logits.grad
    with torch.no_grad():
        before = NegativeEntropy()({"logits": SEVEN_LOGITS}, targets)["total_loss"]
        assert NegativeEntropy()({"logits": calmer}, targets)["total_loss"] < before


def test_l2_is_the_mean_square_of_the_embedding():
    embedding = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    assert OutputNorm()({"embedding": embedding}, torch.zeros(2))["total_loss"].item() == 14 / 4


def test_an_even_prediction_has_the_losses_computed_by_hand():
    outputs, target = {"logits": torch.zeros(1, 2)}, torch.tensor([1])
    focal = FocalLoss(gamma=2.0)(outputs, target)["total_loss"].item()
    assert focal == pytest.approx(math.log(2) / 4)
    entropy = NegativeEntropy()(outputs, target)["total_loss"].item()
    assert entropy == pytest.approx(-math.log(2))

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from engine.losses import CrossEntropy, balanced_class_weights, choose_loss


def test_balanced_weights_are_scikit_learns():
    target = torch.tensor([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=target.numpy())
    assert balanced_class_weights(target, 3) == pytest.approx(expected)


def test_class_weights_and_smoothing_change_the_loss_as_torch_defines_them():
    logits, target = torch.randn(8, 3), torch.randint(3, (8,))
    loss = CrossEntropy(label_smoothing=0.1, class_weights=[1.0, 2.0, 3.0])
    expected = nn.functional.cross_entropy(
        logits, target, weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1
    )
    assert torch.equal(loss({"logits": logits}, target)["total_loss"], expected)


def test_smoothing_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\)"):
        CrossEntropy(label_smoothing=1.0)


def test_the_models_own_loss_wins_over_the_configured_one():
    class WithLoss(nn.Linear):
        def compute_loss(self, outputs, targets, aux=None):
            return {"total_loss": torch.tensor(7.0)}

    configured = CrossEntropy()
    assert choose_loss(WithLoss(1, 1), configured)({}, None)["total_loss"] == 7.0
    assert choose_loss(nn.Linear(1, 1), configured) is configured

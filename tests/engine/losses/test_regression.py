from __future__ import annotations

import pytest
import torch

from datasets.errors import UsageError
from engine.losses.regression import HuberLoss, MeanSquaredError

VALUES = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
TARGETS = torch.tensor([[0.5, -2.0], [1.0, 9.0]])  # off by 0.5, 4, 0, 10


def test_squared_errors_are_averaged_over_samples_and_targets():
    loss = MeanSquaredError()({"logits": VALUES}, TARGETS)["total_loss"]
    assert loss.item() == pytest.approx((0.25 + 16 + 0 + 100) / 4)


def test_huber_grows_straight_beyond_delta():
    loss = HuberLoss(delta=2.0)({"logits": VALUES}, TARGETS)["total_loss"]
    small, large = 0.5 * 0.25, [2 * (error - 1) for error in (4, 10)]
    assert loss.item() == pytest.approx((small + sum(large)) / 4)
    with pytest.raises(ValueError, match=r"delta must be in \(0, inf\)"):
        HuberLoss(delta=0)


@pytest.mark.parametrize("loss", [MeanSquaredError(), HuberLoss()])
def test_values_are_never_broadcast_against_targets(loss):
    with pytest.raises(UsageError, match=r"shape \[2, 1\], targets \[2, 2\]"):
        loss({"logits": VALUES[:, :1]}, TARGETS)

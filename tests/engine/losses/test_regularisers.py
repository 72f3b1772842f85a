from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Categorical

from engine.losses.regularisers import NegativeEntropy, OutputNorm

LOGITS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


def test_entropy_is_torchs_of_classes_and_of_labels():
    of_classes = NegativeEntropy()({"logits": LOGITS}, torch.zeros(7, dtype=torch.long))
    expected = -Categorical(logits=LOGITS).entropy().mean()
    torch.testing.assert_close(of_classes["total_loss"], expected)
    of_labels = NegativeEntropy()({"logits": LOGITS}, torch.zeros(7, 3))
    expected = -Bernoulli(logits=LOGITS).entropy().mean()
    torch.testing.assert_close(of_labels["total_loss"], expected)


@pytest.mark.parametrize("targets", [torch.zeros(7, dtype=torch.long), torch.zeros(7, 3)])
def test_less_of_it_makes_predictions_less_sure(targets):
    logits = LOGITS.clone().requires_grad_()
    NegativeEntropy()({"logits": logits}, targets)["total_loss"].backward()
    assert logits.grad is not None
    calmer = LOGITS - 0.1 * logits.grad
    with torch.no_grad():
        before = NegativeEntropy()({"logits": LOGITS}, targets)["total_loss"]
        assert NegativeEntropy()({"logits": calmer}, targets)["total_loss"] < before


def test_l2_is_the_mean_square_of_the_embedding():
    embedding = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    assert OutputNorm()({"embedding": embedding}, torch.zeros(2))["total_loss"].item() == 14 / 4

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.contract import check_contract
from engine.errors import UsageError
from engine.losses import CrossEntropy
from tests.tiny_problem import TinyLoader, TinyModel


class Returns(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, spectra, mask, tabular):
        return self.outputs


@pytest.fixture
def batch():
    return TinyLoader().batches[0]


def test_a_good_model_passes_and_the_random_stream_is_untouched(batch):
    torch.manual_seed(3)
    expected = torch.rand(2)
    model = TinyModel()
    torch.manual_seed(3)
    assert check_contract(model, CrossEntropy(), batch, 2) == ["total_loss"]
    assert torch.equal(torch.rand(2), expected)
    assert model.training


def test_a_part_that_is_in_evaluation_mode_stays_so(batch):
    model = TinyModel()
    first = next(model.children()).eval()
    check_contract(model, CrossEntropy(), batch, 2)
    assert not first.training
    assert model.training


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(4, 2), "must return a dict with 'logits', not Tensor"),
        ({"logit": torch.zeros(4, 2)}, "did you mean 'logit'"),
        ({"logits": torch.zeros(4, 3)}, r"\[4, 3\], expected \[B, C\] = \[4, 2\]"),
    ],
)
def test_a_broken_model_is_named_with_what_was_expected(batch, outputs, message):
    with pytest.raises(UsageError, match=message):
        check_contract(Returns(outputs), CrossEntropy(), batch, 2)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"loss": torch.tensor(1.0)}, "'total_loss', not: loss"),
        (torch.tensor(1.0), "not: Tensor"),
        ({"total_loss": torch.zeros(4)}, "'total_loss' must be a scalar"),
    ],
)
def test_a_broken_loss_is_named_with_what_was_expected(batch, terms, message):
    model = Returns({"logits": torch.zeros(4, 2)})
    with pytest.raises(UsageError, match=message):
        check_contract(model, lambda outputs, target: terms, batch, 2)

"""The covariate branch: selection gate, vector, tokens."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.tabular_encoder import CovariateTokens, TabularStaticEncoder


def test_the_gate_selects_covariates() -> None:
    torch.manual_seed(0)
    encoder = TabularStaticEncoder(tab_dim=4, tab_emb=6).eval()
    nn.init.zeros_(encoder.gate.weight)
    with torch.no_grad():
        encoder.gate.bias.copy_(torch.tensor([100.0, -100.0, 100.0, -100.0]))
    tabular = torch.randn(3, 4)
    vector, gate = encoder(tabular)
    torch.testing.assert_close(gate, torch.tensor([[1.0, 0.0, 1.0, 0.0]]).expand(3, 4))
    unselected_changed = tabular + torch.tensor([0.0, 5.0, 0.0, 5.0])
    torch.testing.assert_close(encoder(unselected_changed)[0], vector)
    selected_changed = tabular + torch.tensor([5.0, 0.0, 0.0, 0.0])
    assert not torch.allclose(encoder(selected_changed)[0], vector)


def test_the_gate_depends_on_the_sample() -> None:
    _, gate = TabularStaticEncoder(tab_dim=4)(torch.randn(3, 4))
    assert not torch.allclose(gate[0], gate[1])
    assert ((gate > 0) & (gate < 1)).all()


def test_the_hidden_width_is_free() -> None:
    vector, _ = TabularStaticEncoder(4, 6, hidden_dim=10)(torch.randn(3, 4))
    assert vector.shape == (3, 6)


def test_each_covariate_makes_a_token_of_its_own() -> None:
    tokens = CovariateTokens(tab_dim=4, width=8)
    tabular = torch.randn(3, 4)
    made = tokens(tabular)
    assert made.shape == (3, 4, 8)
    changed = tokens(tabular + torch.tensor([0.0, 1.0, 0.0, 0.0])) - made
    assert changed.abs().amax((0, 2)).gt(0).tolist() == [False, True, False, False]


def test_no_covariate_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one covariate, got tab_dim=0"):
        TabularStaticEncoder(0)

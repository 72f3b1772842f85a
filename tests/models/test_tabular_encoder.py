"""The covariate branch: selection gate, vector, tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from models.tabular_encoder import CovariateTokens, FTTransformer, TabularStaticEncoder
from tests.models.small_batch import TAB_DIM, SmallBatch


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


def build(**changes: Any) -> FTTransformer:
    torch.manual_seed(0)
    return FTTransformer(TAB_DIM, **{"d_model": 16, **changes})


def test_every_covariate_moves_the_prediction(batch: SmallBatch) -> None:
    model = build().eval()
    batch.tabular.requires_grad_()
    model(*batch.inputs)["logits"][:, 1].sum().backward()
    assert batch.tabular.grad is not None
    assert batch.tabular.grad.abs().min() > 0


@pytest.mark.slow
def test_two_covariates_together_are_learnt() -> None:
    """The class is the sign of a product, of which neither covariate says anything alone."""
    torch.manual_seed(0)
    tabular = torch.randn(256, 3)
    target = (tabular[:, 0] * tabular[:, 1] > 0).long()
    model = FTTransformer(3, d_model=16, dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        functional.cross_entropy(
            model(None, None, tabular[:192])["logits"], target[:192]
        ).backward()
        optimizer.step()
    with torch.no_grad():
        found = model.eval()(None, None, tabular[192:])["logits"].argmax(1)
    assert (found == target[192:]).float().mean() > 0.85


def test_spectra_are_not_looked_at(batch: SmallBatch) -> None:
    model = build().eval()
    expected = model(*batch.inputs)["logits"]
    assert torch.equal(model(None, None, batch.tabular)["logits"], expected)


def test_attention_is_between_the_summary_and_the_covariates(batch: SmallBatch) -> None:
    weights = build(return_attention=True, num_layers=3)(*batch.inputs)["attention_weights"]
    assert {name: tuple(w.shape) for name, w in weights.items()} == {
        f"covariate_attention_{layer}": (6, 4, TAB_DIM + 1, TAB_DIM + 1) for layer in range(3)
    }
    assert build()(*batch.inputs)["attention_weights"] == {}


def test_the_summary_stands_first(batch: SmallBatch) -> None:
    """In the first layer its query is the same for all samples, and its own key too."""
    model = build(return_attention=True, num_layers=1).eval()
    tabular = torch.zeros(2, TAB_DIM)
    tabular[1, 2] = 5.0
    weights = model(None, None, tabular)["attention_weights"]["covariate_attention_0"]
    odds = weights[:, :, 0, :] / weights[:, :, 0, :1]  # against the summary itself
    same = torch.isclose(odds[0], odds[1]).all(0)
    assert same.tolist() == [place != 1 + 2 for place in range(TAB_DIM + 1)]


def test_the_head_reads_the_summary(batch: SmallBatch) -> None:
    model = build().eval()
    last: list[torch.Tensor] = []
    model.blocks[-1].register_forward_hook(lambda _, given, result: last.append(result[0]))
    out = model(*batch.inputs)
    torch.testing.assert_close(out["embedding"], model.norm(last[0][:, 0]))
    torch.testing.assert_close(out["logits"], model.head(out["embedding"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "num_heads=3 does not divide d_model=16; the nearest that does: 2"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        build(**changes)


def test_a_cohort_without_covariates_is_refused() -> None:
    with pytest.raises(ValueError, match=r"FTTransformer .*tab_dim=0.*'spectra_only'"):
        FTTransformer(0)

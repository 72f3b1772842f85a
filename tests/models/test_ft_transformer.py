"""The transformer of covariates: one token each, read by a summary."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from models.ft_transformer import FTTransformer
from tests.models.small_batch import TAB_DIM, SmallBatch


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

"""Models of one modality look at nothing else; late fusion adds them up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.baseline_models import LateFusion, MeanLinear, SpectraOnly, TabularOnly
from models.tft_loss import TFTLoss
from tests.models.small_batch import SMALL, SPEC_LEN, TAB_DIM, SmallBatch


def spectra_only(**changes: Any) -> SpectraOnly:
    torch.manual_seed(0)
    return SpectraOnly(SPEC_LEN, **{"num_classes": 3, "spec_emb": 12, **SMALL, **changes})


def tabular_only(**changes: Any) -> TabularOnly:
    torch.manual_seed(0)
    return TabularOnly(TAB_DIM, **{"num_classes": 3, "tab_emb": 12, **changes})


@pytest.mark.parametrize("build", [spectra_only, tabular_only])
def test_the_contract_of_every_model_is_kept(build: type, batch: SmallBatch) -> None:
    model = build(dropout=0.0)
    out = model(*batch.inputs)
    assert out["logits"].shape == (6, 3)
    assert out["embedding"].shape == (6, 12)
    TFTLoss()(out, batch.target)["total_loss"].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_spectra_only_never_looks_at_covariates(batch: SmallBatch) -> None:
    model = spectra_only().eval()
    with_covariates = model(*batch.inputs)["logits"]
    assert torch.equal(model(batch.spectra, batch.mask)["logits"], with_covariates)
    nothing = torch.zeros(6, 0)
    assert torch.equal(model(batch.spectra, batch.mask, nothing)["logits"], with_covariates)


def test_tabular_only_never_looks_at_spectra(batch: SmallBatch) -> None:
    model = tabular_only().eval()
    expected = model(*batch.inputs)["logits"]
    assert torch.equal(model(None, None, batch.tabular)["logits"], expected)


def test_padded_scans_and_their_order_change_nothing(batch: SmallBatch) -> None:
    model = spectra_only().eval()
    expected = model(batch.spectra, batch.mask)["logits"]
    rubbish = batch.spectra.masked_fill(~batch.mask[..., None], float("nan"))
    torch.testing.assert_close(model(rubbish, batch.mask)["logits"], expected, atol=1e-6, rtol=0)
    order = torch.tensor([3, 1, 0, 2])
    moved = model(batch.spectra[:, order], batch.mask[:, order])["logits"]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_spectra_only_returns_attention_per_head_when_asked_for(batch: SmallBatch) -> None:
    weights = spectra_only(return_attention=True)(batch.spectra, batch.mask)["attention_weights"]
    assert weights["patch_pooling"].shape == (6, 4, 4, 7)
    assert list(spectra_only()(batch.spectra, batch.mask)["attention_weights"]) == ["scan_pooling"]


def late_fusion(**changes: Any) -> LateFusion:
    torch.manual_seed(0)
    settings = {"num_classes": 3, "spec_emb": 12, "tab_emb": 12, **SMALL, **changes}
    return LateFusion(TAB_DIM, SPEC_LEN, **settings)


def test_late_fusion_adds_the_logits_of_both_branches(batch: SmallBatch) -> None:
    model = late_fusion().eval()
    out = model(*batch.inputs)
    spectra = model.spectra_branch(batch.spectra, batch.mask)["logits"]
    tabular = model.tabular_branch(None, None, batch.tabular)["logits"]
    assert torch.equal(out["aux_logits_spec"], spectra)
    assert torch.equal(out["aux_logits_tab"], tabular)
    torch.testing.assert_close(out["logits"], spectra + tabular)


@pytest.mark.slow
def test_late_fusion_learns_how_much_each_branch_counts(batch: SmallBatch) -> None:
    """Both heads are asked for the whole value, so that their plain sum is twice of it."""
    model = late_fusion(num_classes=1, dropout=0.0)
    value = batch.tabular[:, :1]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    heads = ("logits", "aux_logits_spec", "aux_logits_tab")
    for _ in range(200):
        optimizer.zero_grad()
        out = model(*batch.inputs)
        torch.stack([(out[head] - value).square().mean() for head in heads]).sum().backward()
        optimizer.step()
    assert (out["logits"] - value).abs().max() < 0.1
    assert model.branch_weights.sum().item() == pytest.approx(1.0, abs=0.2)


def test_attention_of_late_fusion_is_switched_in_its_branch(batch: SmallBatch) -> None:
    model = late_fusion(return_attention=True)
    assert model.return_attention
    assert "patch_pooling" in model(*batch.inputs)["attention_weights"]
    model.return_attention = False
    assert list(model(*batch.inputs)["attention_weights"]) == ["scan_pooling", "feature_selection"]


@pytest.mark.parametrize("model", [TabularOnly, lambda _: LateFusion(0, SPEC_LEN)])
def test_a_cohort_without_covariates_is_refused(model: Callable[[int], Any]) -> None:
    with pytest.raises(ValueError, match="'spectra_only'"):
        model(0)


def test_the_logits_are_linear_in_the_mean_of_the_real_scans(batch: SmallBatch) -> None:
    torch.manual_seed(0)
    model = MeanLinear(SPEC_LEN, num_classes=3)
    broken = batch.spectra.masked_fill(~batch.mask[..., None], float("nan"))
    out = model(broken, batch.mask)
    means = [scans[real].mean(0) for scans, real in zip(batch.spectra, batch.mask, strict=True)]
    expected = torch.stack(means)
    torch.testing.assert_close(out["embedding"], expected)
    torch.testing.assert_close(
        out["logits"], expected @ model.head.weight.T + model.head.bias, atol=1e-6, rtol=1e-5
    )


def test_it_never_looks_at_covariates(batch: SmallBatch) -> None:
    model = MeanLinear(SPEC_LEN)
    nothing = torch.zeros(6, 0)
    expected = model(*batch.inputs)["logits"]
    assert torch.equal(model(batch.spectra, batch.mask, nothing)["logits"], expected)


def test_spectra_of_another_length_are_refused(batch: SmallBatch) -> None:
    with pytest.raises(ValueError, match=r"spectra have 100 points .* spec_len=99"):
        MeanLinear(99)(*batch.inputs)

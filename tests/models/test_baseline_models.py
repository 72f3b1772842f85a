"""Models of one modality keep the same contract, and the short names build."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from models import MODELS
from models.baseline_models import SpectraOnly, TabularOnly
from models.tft_models import TFTLoss
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


def test_the_short_names_build_models(batch: SmallBatch) -> None:
    known = {"tab_dim": TAB_DIM, "spec_len": SPEC_LEN, "num_classes": 2}
    for name, model_class in MODELS.items():
        asked = inspect.signature(model_class).parameters
        model = model_class(**{k: v for k, v in known.items() if k in asked})
        assert model(*batch.inputs)["logits"].shape == (6, 2), name


def test_a_cohort_without_covariates_is_refused() -> None:
    with pytest.raises(ValueError, match="'spectra_only'"):
        TabularOnly(0)

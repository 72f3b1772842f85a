"""Both ways of calling the attention model: with data, and with encoders' results."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models import attention_models
from models.attention_models import AttentionMultimodal, EnhancedAttentionMultimodal
from tests.models.small_batch import SMALL_BY_NAME, SPEC_LEN, TAB_DIM, SmallBatch

PUBLIC_NAMES = {
    "AttentionMultimodal",
    "EnhancedAttentionMultimodal",
    "EnhancedClassifier",
    "EnhancedCrossAttentionFusion",
}


def build(own_encoders: bool = True, **changes: Any) -> AttentionMultimodal:
    torch.manual_seed(0)
    sizes = {"tab_dim": TAB_DIM, "spec_len": SPEC_LEN} if own_encoders else {}
    settings: dict[str, Any] = {**sizes, **SMALL_BY_NAME["attention"], **changes}
    return AttentionMultimodal(**settings)


def results() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    spectra, tabular = (
        {
            "embedding": torch.randn(6, width, generator=generator),
            "logits": torch.randn(6, 2, generator=generator),
        }
        for width in (24, 12)
    )
    return spectra, tabular


def test_every_part_is_found_under_attention_models() -> None:
    assert set(attention_models.__all__) == PUBLIC_NAMES
    assert all(hasattr(attention_models, name) for name in PUBLIC_NAMES)


def test_end_to_end_attention_is_by_covariate_and_scan(
    batch: SmallBatch,
) -> None:
    weights = build(return_attention=True).eval()(*batch.inputs)["attention_weights"]
    b, s, h, t, d = *batch.mask.shape, 4, 7, TAB_DIM
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {
        "spectra_pooling": (b, s),
        "tabular_pooling": (b, d),
        "fusion_gate": (b, 16),
        "spectra_to_tabular": (b, 2, s, d),
        "tabular_to_spectra": (b, 2, d, s),
        "scan_pooling": (b, s),
        "feature_selection": (b, d),
        "patch_pooling": (b, s, h, t),
        "patch_attention_0": (b, s, h, t, t),
        "patch_attention_1": (b, s, h, t, t),
    }


def test_end_to_end_the_modalities_logits_are_the_auxiliary_heads(batch: SmallBatch) -> None:
    out = build(dropout=0.3)(*batch.inputs)  # in training: both are of one and the same pass
    for name, auxiliary, loss_name in (
        ("spec_logits", "aux_spec_logits", "aux_logits_spec"),
        ("tab_logits", "aux_tab_logits", "aux_logits_tab"),
    ):
        assert torch.equal(out[name], out[auxiliary])
        assert torch.equal(out[name], out[loss_name])


@pytest.mark.parametrize("own_encoders", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_other_encoders_are_fused_as_by_the_enhanced_model(own_encoders: bool, named: bool) -> None:
    model = build(own_encoders).eval()
    spectra, tabular = results()
    if named:
        out = model(spectra_result=spectra, tabular_result=tabular)
    else:
        out = model(spectra, tabular)
    fusion = model.multimodal
    assert isinstance(fusion, EnhancedAttentionMultimodal)
    assert torch.equal(out["logits"], fusion(spectra, tabular)["logits"])
    assert out["spec_embedding"] is spectra["embedding"]


def test_without_sizes_of_data_there_are_no_encoders() -> None:
    names = {name.partition(".")[0] for name, _ in build(own_encoders=False).named_parameters()}
    assert names == {"multimodal"}


def test_end_to_end_adds_the_modalities_logits_to_the_fusions(batch: SmallBatch) -> None:
    model = build().eval()
    assert model.covariate_tokens is not None
    out = model(*batch.inputs)
    scans, _ = model.spectra_encoder(batch.spectra, batch.mask)
    spectra = {
        "embedding": out["spec_embedding"],
        "logits": out["spec_logits"],
        "tokens": scans,
        "mask": batch.mask,
    }
    tabular = {
        "embedding": out["tab_embedding"],
        "logits": out["tab_logits"],
        "tokens": model.covariate_tokens(batch.tabular),
    }
    fused = model(spectra, tabular)["logits"]
    torch.testing.assert_close(fused + out["spec_logits"] + out["tab_logits"], out["logits"])


def test_both_modalities_act_beyond_their_own_heads(batch: SmallBatch) -> None:
    model = build().eval()
    for tensor in (batch.spectra, batch.tabular):
        tensor.requires_grad_()
    out = model(*batch.inputs)
    out["embedding"][:, 0].sum().backward()
    assert batch.spectra.grad is not None
    assert batch.tabular.grad is not None
    assert batch.spectra.grad.abs().sum(-1)[batch.mask].min() > 0
    assert batch.spectra.grad[~batch.mask].eq(0).all()
    assert batch.tabular.grad.abs().min() > 0


@pytest.mark.parametrize("fusion_type", ["enhanced_cross", "concat"])
def test_gradients_reach_every_parameter_with_either_fusion(
    fusion_type: str, batch: SmallBatch
) -> None:
    model = build(fusion_type=fusion_type, dropout=0.0)
    model(*batch.inputs)["logits"].square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_scan_position_index_makes_the_order_count(batch: SmallBatch) -> None:
    model = build(scan_position="index").eval()
    order = torch.tensor([2, 0, 3, 1])
    moved = model(batch.spectra[:, order], batch.mask[:, order], batch.tabular)["logits"]
    apart = (moved - model(*batch.inputs)["logits"]).abs()
    assert apart[batch.mask.sum(1) > 1].max() > 1e-4


def test_data_without_encoders_and_halves_of_a_call_are_refused(batch: SmallBatch) -> None:
    with pytest.raises(ValueError, match=r"built without tab_dim and spec_len, so it has no enco"):
        build(own_encoders=False)(*batch.inputs)
    halves: list[dict[str, Any]] = [
        {},
        {"spectra": batch.spectra, "mask": batch.mask},
        {"spectra_result": results()[0]},
    ]
    for half in halves:
        with pytest.raises(ValueError, match=r"^AttentionMultimodal takes spectra, mask and tabul"):
            build()(**half)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tab_dim": 3}, r"tab_dim and spec_len go together, got tab_dim=3 and spec_len=None"),
        ({"tab_dim": 0, "spec_len": 9}, r"AttentionMultimodal .*tab_dim=0.*'spectra_only'"),
        ({"tab_dim": 3, "spec_len": 0}, r"spec_len must be at least 1, got 0"),
        ({"fusion_heads": 3, "fusion_dim": 16}, r"^fusion_heads=3 does not divide fusion_dim=16"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_one_line(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionMultimodal(**sizes)

"""What the multimodal transformer promises, on a small ragged batch."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from models import tft_models
from models.tft_loss import TFTLoss
from models.tft_models import TFTMultimodal
from tests.models.small_batch import SMALL, SPEC_LEN, TAB_DIM, SmallBatch

PUBLIC_NAMES = (
    "SpectraTFTEncoder",
    "TabularStaticEncoder",
    "CrossModalAttention",
    "EnhancedGating",
    "TFTMultimodal",
    "TFTLoss",
)
PADDING_TOLERANCE = 1e-6
ORDER_TOLERANCE = 1e-5


def build(seed: int = 0, **changes: Any) -> TFTMultimodal:
    torch.manual_seed(seed)
    settings = {"spec_emb": 24, "tab_emb": 12, "fusion_dim": 20, **SMALL, **changes}
    return TFTMultimodal(TAB_DIM, SPEC_LEN, **settings)


def test_every_part_is_found_under_tft_models() -> None:
    assert set(PUBLIC_NAMES) <= set(tft_models.__all__)
    assert all(hasattr(tft_models, name) for name in tft_models.__all__)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_shapes_are_as_promised(batch: SmallBatch, num_classes: int) -> None:
    out = build(num_classes=num_classes)(*batch.inputs)
    b, s = batch.mask.shape
    assert {k: tuple(v.shape) for k, v in out.items() if k != "attention_weights"} == {
        "logits": (b, num_classes),
        "embedding": (b, 20),
        "aux_logits_spec": (b, num_classes),
        "aux_logits_tab": (b, num_classes),
        "spec_embedding": (b, 24),
        "tab_embedding": (b, 12),
        "gated_spec": (b, 24),
        "spec_projection": (b, 64),
        "tab_projection": (b, 64),
    }
    assert {k: tuple(v.shape) for k, v in out["attention_weights"].items()} == {
        "scan_pooling": (b, s),
        "feature_selection": (b, TAB_DIM),
        "spectra_gate": (b, 24),
    }


def test_attention_is_returned_per_head_when_asked_for(batch: SmallBatch) -> None:
    model = build(return_attention=True).eval()
    weights = model(*batch.inputs)["attention_weights"]
    b, s, h, t, d = *batch.mask.shape, 4, 7, TAB_DIM
    shapes = {
        "scan_pooling": (b, s),
        "feature_selection": (b, d),
        "spectra_gate": (b, 24),
        "spectra_to_tabular": (b, h, s, d),
        "tabular_to_spectra": (b, h, d, s),
        "patch_pooling": (b, s, h, t),
        "patch_attention_0": (b, s, h, t, t),
        "patch_attention_1": (b, s, h, t, t),
    }
    assert {k: tuple(v.shape) for k, v in weights.items()} == shapes
    real = batch.mask.float()
    sums_over_scans = {
        "scan_pooling": torch.ones(b),
        "tabular_to_spectra": torch.ones(b, h, d),
        "spectra_to_tabular": real[:, None].expand(b, h, s),
        "patch_pooling": real[..., None].expand(b, s, h),
        "patch_attention_1": real[..., None, None].expand(b, s, h, t),
    }
    for name, expected in sums_over_scans.items():
        torch.testing.assert_close(weights[name].sum(-1), expected, msg=name)
    assert (weights["tabular_to_spectra"] * ~batch.mask[:, None, None]).eq(0).all()
    assert (weights["scan_pooling"] * ~batch.mask).eq(0).all()


def test_asking_for_attention_changes_no_prediction(batch: SmallBatch) -> None:
    model = build().eval()
    fast = model(*batch.inputs)["logits"]
    model.return_attention = True
    torch.testing.assert_close(model(*batch.inputs)["logits"], fast, atol=1e-5, rtol=0)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("scan_position", [None, "index"])
def test_padded_scans_change_nothing(
    batch: SmallBatch, packed: bool, scan_position: str | None
) -> None:
    model = build(packed=packed, scan_position=scan_position, return_attention=True).eval()
    spectra, mask, tabular = batch.inputs
    rubbish = torch.full((len(spectra), 3, SPEC_LEN), float("nan"))
    wider = torch.cat([spectra.masked_fill(~mask[..., None], 1e6), rubbish], dim=1)
    wider_mask = torch.cat([mask, torch.zeros(len(mask), 3, dtype=torch.bool)], dim=1)
    narrow, wide = model(spectra, mask, tabular), model(wider, wider_mask, tabular)
    for name in narrow:
        if name != "attention_weights":
            torch.testing.assert_close(wide[name], narrow[name], atol=PADDING_TOLERANCE, rtol=0)
    for name, weights in wide["attention_weights"].items():
        assert weights.isfinite().all(), name


def test_packed_and_padded_give_the_same_logits_and_gradients(batch: SmallBatch) -> None:
    results = []
    for packed in (True, False):
        model = build(packed=packed, dropout=0.0)
        out = model(*batch.inputs)
        TFTLoss()(out, batch.target)["total_loss"].backward()
        results.append((out["logits"], [p.grad for p in model.parameters()]))
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=1e-4)


def permuted(batch: SmallBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    order = torch.tensor([2, 0, 3, 1])
    return batch.spectra[:, order], batch.mask[:, order], batch.tabular


def test_the_order_of_replicate_scans_changes_nothing(batch: SmallBatch) -> None:
    model = build().eval()
    torch.testing.assert_close(
        model(*permuted(batch))["logits"],
        model(*batch.inputs)["logits"],
        atol=ORDER_TOLERANCE,
        rtol=0,
    )


def test_scan_position_index_makes_the_order_count(batch: SmallBatch) -> None:
    model = build(scan_position="index").eval()
    moved = model(*permuted(batch))["logits"] - model(*batch.inputs)["logits"]
    assert moved[batch.mask.sum(1) > 1].abs().max() > 100 * ORDER_TOLERANCE


@pytest.mark.parametrize("return_attention", [False, True])
@pytest.mark.parametrize("scan_position", [None, "index"])
def test_gradients_reach_every_parameter(
    batch: SmallBatch, return_attention: bool, scan_position: str | None
) -> None:
    model = build(dropout=0.0, return_attention=return_attention, scan_position=scan_position)
    TFTLoss()(model(*batch.inputs), batch.target)["total_loss"].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_a_batch_of_one_sample_with_one_scan_trains() -> None:
    model = build()
    out = model(torch.randn(1, 1, SPEC_LEN), torch.ones(1, 1, dtype=torch.bool), torch.randn(1, 5))
    losses = TFTLoss()(out, torch.tensor([1]))
    losses["total_loss"].backward()
    assert losses["contrastive_loss"] == 0
    assert losses["total_loss"].isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("return_attention", [False, True])
def test_bf16_autocast_stays_finite_and_close(batch: SmallBatch, return_attention: bool) -> None:
    model = build(dropout=0.0, return_attention=return_attention)
    exact = model(*batch.inputs)["logits"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(*batch.inputs)
        losses = TFTLoss()(out, batch.target)
    losses["total_loss"].backward()
    assert losses["total_loss"].isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(out["logits"].float(), exact, atol=0.1, rtol=0.1)


def test_evaluation_is_deterministic_and_training_is_not(batch: SmallBatch) -> None:
    model = build(dropout=0.5)
    assert not torch.equal(model(*batch.inputs)["logits"], model(*batch.inputs)["logits"])
    model.eval()
    assert torch.equal(model(*batch.inputs)["logits"], model(*batch.inputs)["logits"])


def test_the_logits_of_both_heads_are_added_to_the_fusions(batch: SmallBatch) -> None:
    model = build().eval()
    out = model(*batch.inputs)
    found = model.head(out["embedding"])
    torch.testing.assert_close(
        out["logits"], found + out["aux_logits_spec"] + out["aux_logits_tab"]
    )


def test_modality_dropout_hides_one_modality_from_the_fusion(batch: SmallBatch) -> None:
    model = build(dropout=0.0, modality_dropout=1.0)
    other_spectra = torch.randn_like(batch.spectra)
    other_tabular = torch.randn_like(batch.tabular)
    logits = []
    for inputs in (
        batch.inputs,
        (other_spectra, batch.mask, batch.tabular),
        (batch.spectra, batch.mask, other_tabular),
    ):
        torch.manual_seed(0)  # the same samples lose the same modality
        logits.append(model(*inputs)["logits"])
    deaf_to_spectra = (logits[0] - logits[1]).abs().amax(1) < 1e-6
    deaf_to_tabular = (logits[0] - logits[2]).abs().amax(1) < 1e-6
    assert (deaf_to_spectra ^ deaf_to_tabular).all()
    assert deaf_to_spectra.any()
    assert deaf_to_tabular.any()
    model.eval()
    changed = model(other_spectra, batch.mask, batch.tabular)["logits"]
    assert (changed - model(*batch.inputs)["logits"]).abs().amax(1).min() > 1e-6


def test_both_modalities_move_the_prediction(batch: SmallBatch) -> None:
    model = build().eval()
    for tensor in (batch.spectra, batch.tabular):
        tensor.requires_grad_()
    model(*batch.inputs)["logits"][:, 1].sum().backward()
    assert batch.spectra.grad is not None
    assert batch.tabular.grad is not None
    assert batch.spectra.grad.abs().sum(-1)[batch.mask].min() > 0
    assert batch.spectra.grad[~batch.mask].eq(0).all()
    assert batch.tabular.grad.abs().min() > 0


def test_the_state_survives_a_weights_only_round_trip(batch: SmallBatch) -> None:
    model, other = build(seed=0).eval(), build(seed=1).eval()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(*batch.inputs)["logits"], model(*batch.inputs)["logits"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "num_heads=3 does not divide d_model=16; the nearest that does: 2"),
        ({"num_heads": 0}, "num_heads=0 does not divide d_model=16; the nearest that does: 1"),
        ({"scan_position": "time"}, "scan_position must be None or 'index', got 'time'"),
        ({"patch_size": 0}, "patch_size must be at least 1, got 0"),
        ({"position_features": 0}, "position_features must be at least 1, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        build(**changes)


def test_without_covariates_the_error_names_spectra_only() -> None:
    with pytest.raises(ValueError, match=r"TFTMultimodal .*tab_dim=0.*'spectra_only'"):
        TFTMultimodal(0, SPEC_LEN)


def test_spectra_of_another_length_are_refused(batch: SmallBatch) -> None:
    with pytest.raises(ValueError, match=r"spectra have 99 points .* spec_len=100"):
        build()(batch.spectra[..., :99], batch.mask, batch.tabular)

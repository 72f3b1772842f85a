"""What every model with a short name promises, for every task and precision."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models import MODELS
from models.tft_loss import info_nce
from tests.models.small_batch import (
    SCANS,
    SMALL_BY_NAME,
    SPEC_LEN,
    TAB_DIM,
    SmallBatch,
    small_model,
)
from tests.no_waiting import NoWaiting

ORDER_TOLERANCE = 1e-5
SIZE = len(SCANS)
AUXILIARY = ("aux_logits_spec", "aux_logits_tab")
READS_SPECTRA = [name for name in MODELS if name not in ("tabular_only", "tabular_transformer")]
HAS_HEADS = [name for name in MODELS if name not in ("tabular_only", "mean_linear", "pca_mlp")]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

Criterion = Callable[[Tensor, Tensor], Tensor]
# Task -> width of the logits, targets, loss.
TASKS: dict[str, tuple[int, Tensor, Criterion]] = {
    "binary": (2, torch.arange(SIZE) % 2, functional.cross_entropy),
    "multiclass": (4, torch.arange(SIZE) % 4, functional.cross_entropy),
    "multilabel": (
        3,
        (torch.arange(SIZE)[:, None] >> torch.arange(3)).remainder(2).float(),
        functional.binary_cross_entropy_with_logits,
    ),
    "one_value": (1, torch.linspace(-1, 1, SIZE)[:, None], functional.mse_loss),
    "two_values": (2, torch.linspace(-1, 1, 2 * SIZE).view(SIZE, 2), functional.mse_loss),
}


def total_loss(out: dict[str, Any], target: Tensor, criterion: Criterion) -> Tensor:
    """The task's loss on every head, and the modalities contrasted where they are projected."""
    heads = ["logits", *(key for key in AUXILIARY if key in out)]
    loss = torch.stack([criterion(out[key].float(), target) for key in heads]).sum()
    if "spec_projection" in out:
        loss = loss + info_nce(out["spec_projection"], out["tab_projection"], 0.1)
    return loss


def without_gradient(model: nn.Module) -> list[str]:
    return [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_every_short_name_is_tested() -> None:
    assert set(SMALL_BY_NAME) == set(MODELS)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", MODELS)
def test_one_step_reaches_every_parameter(
    name: str, task: str, precision: str, batch: SmallBatch
) -> None:
    width, target, criterion = TASKS[task]
    model = small_model(name, width, dropout=0.0)
    bf16 = torch.autocast("cpu", dtype=torch.bfloat16)
    with bf16 if precision == "bf16" else nullcontext():
        out = model(*batch.inputs)
        loss = total_loss(out, target, criterion)
    for key in ("logits", *(key for key in AUXILIARY if key in out)):
        assert out[key].shape == (SIZE, width), key
    assert out["embedding"].shape[0] == SIZE
    assert loss.isfinite()
    loss.backward()
    assert without_gradient(model) == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", MODELS)
def test_a_few_steps_lower_the_loss(name: str, batch: SmallBatch) -> None:
    model = small_model(name, dropout=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.eval()
    before = total_loss(model(*batch.inputs), batch.target, functional.cross_entropy)
    model.train()
    for _ in range(20):
        optimizer.zero_grad()
        total_loss(model(*batch.inputs), batch.target, functional.cross_entropy).backward()
        optimizer.step()
    model.eval()
    assert total_loss(model(*batch.inputs), batch.target, functional.cross_entropy) < before - 0.05


@pytest.mark.parametrize("name", MODELS)
def test_the_order_of_scans_changes_nothing(name: str, batch: SmallBatch) -> None:
    model = small_model(name).eval()
    order = torch.tensor([2, 0, 3, 1])
    moved = model(batch.spectra[:, order], batch.mask[:, order], batch.tabular)
    torch.testing.assert_close(
        moved["logits"], model(*batch.inputs)["logits"], atol=ORDER_TOLERANCE, rtol=0
    )


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", READS_SPECTRA)
def test_padded_scans_change_nothing(
    name: str, training: bool, packed: bool, batch: SmallBatch
) -> None:
    """In training too: whatever a layer gathers over a batch leaves padding out."""
    model = small_model(name, packed=packed, dropout=0.0).train(training)
    rubbish = 1e3 * torch.randn(SIZE, 3, SPEC_LEN)
    spectra = torch.cat([batch.spectra.where(batch.mask[..., None], rubbish[:, :1]), rubbish], 1)
    mask = torch.cat([batch.mask, torch.zeros(SIZE, 3, dtype=torch.bool)], dim=1)
    narrow, wide = model(*batch.inputs), model(spectra, mask, batch.tabular)
    for key in ("logits", "embedding"):
        torch.testing.assert_close(wide[key], narrow[key], atol=ORDER_TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_is_predicted_alike_in_any_batch(name: str, batch: SmallBatch) -> None:
    model = small_model(name).eval()
    together = model(*batch.inputs)["logits"]
    for row, scans in enumerate(SCANS):
        alone = model(
            batch.spectra[row : row + 1, :scans],
            batch.mask[row : row + 1, :scans],
            batch.tabular[row : row + 1],
        )["logits"]
        torch.testing.assert_close(alone[0], together[row], atol=ORDER_TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_one_sample_of_one_scan_trains(name: str) -> None:
    model = small_model(name, num_classes=1)
    out = model(
        torch.randn(1, 1, SPEC_LEN), torch.ones(1, 1, dtype=torch.bool), torch.randn(1, TAB_DIM)
    )
    loss = total_loss(out, torch.ones(1, 1), functional.mse_loss)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_the_state_survives_a_weights_only_round_trip(name: str, batch: SmallBatch) -> None:
    model, other = small_model(name).eval(), small_model(name, seed=1).eval()
    expected = model(*batch.inputs)["logits"]
    assert not torch.equal(other(*batch.inputs)["logits"], expected)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(*batch.inputs)["logits"], expected)


@pytest.mark.parametrize("name", HAS_HEADS)
def test_every_row_of_attention_sums_to_one_over_what_is_real(name: str, batch: SmallBatch) -> None:
    model = small_model(name, return_attention=True).eval()
    weights = model(*batch.inputs)["attention_weights"]
    gates = ("feature_selection", "spectra_gate", "fusion_gate")
    real = batch.mask.float()
    for key, tensor in weights.items():
        assert tensor.isfinite().all(), key
        if key in gates:
            assert ((tensor > 0) & (tensor < 1)).all(), key
            continue
        sums = tensor.sum(-1)
        looked_at_by_scans = key.startswith(("patch_", "position_"))
        if looked_at_by_scans:  # [B, S, ...]
            expected = real.view(*real.shape, *[1] * (sums.dim() - 2)).expand_as(sums)
        elif key == "spectra_to_tabular":  # [B, H, S]
            expected = real[:, None].expand_as(sums)
        else:
            expected = torch.ones_like(sums)
        torch.testing.assert_close(sums, expected, msg=key)
    for key in {"scan_pooling", "spectra_pooling", "tabular_to_spectra"} & set(weights):
        padded = ~batch.mask.view(SIZE, *[1] * (weights[key].dim() - 2), -1)
        assert (weights[key] * padded).eq(0).all(), key
        assert (weights[key].masked_fill(padded, 1.0) > 0).all(), key


@pytest.mark.slow
@pytest.mark.parametrize("name", HAS_HEADS)
def test_return_attention_changes_no_prediction(name: str, batch: SmallBatch) -> None:
    model = small_model(name).eval()
    fast = model(*batch.inputs)
    switch(model, return_attention=True)
    read = model(*batch.inputs)
    assert set(fast["attention_weights"]) < set(read["attention_weights"])
    torch.testing.assert_close(read["logits"], fast["logits"], atol=ORDER_TOLERANCE, rtol=0)
    switch(model, return_attention=False)
    assert set(model(*batch.inputs)["attention_weights"]) == set(fast["attention_weights"])


@pytest.mark.parametrize("name", MODELS)
def test_no_attention_is_written_out_unasked(
    name: str, batch: SmallBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Multi-head attention takes the fused kernel; the pooling over a set has no other way."""
    model = small_model(name)
    fused = functional.scaled_dot_product_attention
    calls: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(1)
        return fused(*args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    model(*batch.inputs)
    blocks = sum(type(module).__name__ == "MultiHeadAttention" for module in model.modules())
    assert len(calls) == blocks


@pytest.mark.parametrize("name", [n for n in READS_SPECTRA if n not in ("mean_linear", "pca_mlp")])
def test_scan_rows_give_the_same_without_waiting(name: str, batch: SmallBatch) -> None:
    rows = batch.mask.flatten().nonzero().squeeze(1)
    model = small_model(name, dropout=0.0)
    expected = model(*batch.inputs)["logits"]
    with NoWaiting():
        known = model(*batch.inputs, scan_rows=rows)["logits"]
    padded = small_model(name, dropout=0.0, packed=False)
    with NoWaiting():
        out = padded(*batch.inputs)
        total_loss(out, batch.target, functional.cross_entropy).backward()
    assert torch.equal(known, expected)
    torch.testing.assert_close(out["logits"], expected, atol=ORDER_TOLERANCE, rtol=0)


@needs_gpu
@pytest.mark.parametrize("return_attention", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_on_a_gpu_never_waits_and_agrees_with_the_cpu(
    name: str, return_attention: bool, batch: SmallBatch
) -> None:
    settings: dict[str, Any] = {
        "packed": False,
        "dropout": 0.0,
        "return_attention": return_attention,
    }
    expected = small_model(name, **settings)(*batch.inputs)["logits"]
    model = small_model(name, **settings).cuda()
    inputs = [tensor.cuda() for tensor in batch.inputs]
    rows = batch.mask.flatten().nonzero().squeeze(1).cuda()
    target = batch.target.cuda()
    total_loss(model(*inputs), target, functional.cross_entropy).backward()  # kernels are loaded
    known = {"scan_rows": rows} if takes_rows(model) else {}
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = model(*inputs)
        total_loss(out, target, functional.cross_entropy).backward()
        for module in model.modules():
            if hasattr(module, "packed"):
                switch(module, packed=True)
        packed = model(*inputs, **known)["logits"]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for logits in (out["logits"], packed):
        torch.testing.assert_close(logits.cpu(), expected, atol=1e-4, rtol=1e-3)


def switch(module: nn.Module, **attributes: Any) -> None:
    for name, value in attributes.items():
        assert hasattr(module, name)
        setattr(module, name, value)


def takes_rows(model: nn.Module) -> bool:
    return "scan_rows" in inspect.signature(type(model).forward).parameters

"""Activation checkpointing: less is kept for the backward pass, and nothing else changes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from models import MODELS
from models.attention import TransformerBlock
from models.recomputation import recomputed
from models.spectra_encoder import SpectraTFTEncoder
from tests.models.small_batch import SMALL, SPEC_LEN, SmallBatch, small_model

HAS_BLOCKS = [
    name
    for name, model in MODELS.items()
    if "activation_checkpointing" in inspect.signature(model).parameters
]
PRECISIONS = {"fp32": False, "bf16": True}


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def kept_bytes(model: nn.Module, batch: SmallBatch) -> int:
    """What is allocated during a forward pass and still held after it."""
    model(*batch.inputs)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        outputs = model(*batch.inputs)
    assert outputs["logits"].requires_grad
    return sum(event.self_cpu_memory_usage for event in recorded.key_averages())


def test_every_model_with_blocks_has_the_option() -> None:
    assert set(HAS_BLOCKS) == set(MODELS) - {"mean_linear", "tabular_only"}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", HAS_BLOCKS)
def test_gradients_are_the_same_under_dropout(
    name: str, packed: bool, precision: str, batch: SmallBatch
) -> None:
    found = []
    for checkpointing in (False, True):
        model = small_model(
            name, dropout=0.3, packed=packed, activation_checkpointing=checkpointing
        )
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISIONS[precision]):
            logits = model(*batch.inputs)["logits"]
            loss = functional.cross_entropy(logits.float(), batch.target)
        # The random stream goes on from the same place.
        found.append((logits, gradients(model, loss), torch.rand(1)))
    torch.testing.assert_close(found[1], found[0], atol=0, rtol=0)


@pytest.mark.parametrize("name", HAS_BLOCKS)
def test_less_is_kept_for_the_backward_pass(name: str, batch: SmallBatch) -> None:
    kept = [
        kept_bytes(small_model(name, activation_checkpointing=wanted), batch)
        for wanted in (False, True)
    ]
    assert kept[1] < 0.8 * kept[0]


@pytest.mark.slow
def test_what_an_encoder_keeps_of_a_block_is_its_input(batch: SmallBatch) -> None:
    """And the random state, from which the second run draws the same dropout."""

    def growth(wanted: bool) -> int:
        kept = [
            kept_bytes(
                small_model("spectra_only", num_layers=layers, activation_checkpointing=wanted),
                batch,
            )
            for layers in (2, 6)
        ]
        return (kept[1] - kept[0]) // 4

    tokens = int(batch.mask.sum()) * -(-SPEC_LEN // SMALL["patch_size"]) * SMALL["d_model"] * 4
    random_state = torch.get_rng_state().numel()
    assert growth(True) < 1.1 * (tokens + random_state)
    assert growth(False) > 10 * tokens


def test_weights_that_are_asked_for_are_returned_and_carry_gradients(batch: SmallBatch) -> None:
    found = []
    for wanted in (False, True):
        model = small_model("tft", return_attention=True, activation_checkpointing=wanted)
        torch.manual_seed(1)
        out = model(*batch.inputs)
        weights = out["attention_weights"]["patch_attention_1"]
        loss = out["logits"].square().sum() + weights.square().sum()
        found.append((out["attention_weights"], gradients(model, loss)))
    torch.testing.assert_close(found[1], found[0], atol=0, rtol=0)


def test_nothing_runs_twice_in_evaluation_or_without_gradients(batch: SmallBatch) -> None:
    encoder = SpectraTFTEncoder(SPEC_LEN, 12, activation_checkpointing=True, **SMALL)
    runs: list[int] = []
    for norm in (
        module for name, module in encoder.named_modules() if name.endswith("norm_attention")
    ):
        norm.register_forward_hook(lambda *_: runs.append(1))

    def runs_of_a_step() -> int:
        runs.clear()
        encoder(batch.spectra, batch.mask)[0].sum().backward()
        return len(runs) // len(encoder.blocks)

    assert runs_of_a_step() == 2
    encoder.eval()
    assert runs_of_a_step() == 1
    encoder.train()
    with torch.no_grad():
        vectors, _ = encoder(batch.spectra, batch.mask)
    assert not vectors.requires_grad


def test_hooks_on_a_block_run_once(batch: SmallBatch) -> None:
    encoder = SpectraTFTEncoder(SPEC_LEN, 12, activation_checkpointing=True, **SMALL)
    runs: list[str] = []
    for part in (encoder.patches, *encoder.blocks):
        part.register_forward_hook(lambda module, *_: runs.append(type(module).__name__))
    encoder(batch.spectra, batch.mask)[0].sum().backward()
    assert runs == ["MultiScalePatches", *["TransformerBlock"] * len(encoder.blocks)]


def test_a_part_without_gradients_keeps_nothing_and_runs_once() -> None:
    seen: list[Any] = []

    def part(*inputs: Any) -> int:
        seen.append(inputs)
        return 3

    with torch.no_grad():
        assert recomputed(True, part, 1, 2) == 3
    assert seen == [(1, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_compiled_blocks_recompute_too(precision: str) -> None:
    found = []
    tokens = torch.randn(6, 7, 16)
    for wanted in (False, True):
        torch.manual_seed(0)
        block = TransformerBlock(16, 4, 0.3, activation_checkpointing=wanted)
        if wanted:
            block.compile(backend="aot_eager", fullgraph=True)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISIONS[precision]):
            mixed, _ = block(tokens)
        found.append((mixed, gradients(block, mixed.float().square().sum())))
    torch.testing.assert_close(found[1], found[0])

"""The attention blocks, each against its formula."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from experiments.config import find_named
from models import MODELS
from models import attention as attention_module
from models.attention import (
    AttentionPooling,
    MultiHeadAttention,
    TokenDropout,
    TransformerBlock,
    attend,
    recomputed,
)
from models.spectra_encoder import SpectraTFTEncoder
from tests.models.small_batch import SMALL, SPEC_LEN, SmallBatch, small_model


def test_attention_equals_its_formula_with_and_without_weights() -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, num_heads=2)
    queries, context = torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    mask = torch.tensor([[True, True, True, True], [True, False, True, False]])
    fused, nothing = attention(queries, context, mask)
    written_out, weights = attention(queries, context, mask, need_weights=True)
    reference = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        both = (attention.query, attention.key_value)
        reference.in_proj_weight.copy_(torch.cat([layer.weight for layer in both]))
        reference.in_proj_bias.copy_(torch.cat([layer.bias for layer in both]))
        reference.out_proj.load_state_dict(attention.out.state_dict())
    expected, expected_weights = reference(
        queries, context, context, key_padding_mask=~mask, average_attn_weights=False
    )
    assert nothing is None
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(written_out, expected)
    torch.testing.assert_close(weights, expected_weights)


def test_a_set_without_a_valid_element_is_pooled_to_zero_not_nan() -> None:
    pooled, weights = AttentionPooling(8, num_heads=2)(
        torch.randn(1, 3, 8), torch.zeros(1, 3, dtype=torch.bool)
    )
    assert pooled.eq(0).all()
    assert weights.eq(0).all()


def test_token_dropout_leaves_out_the_same_features_of_all_tokens() -> None:
    torch.manual_seed(0)
    dropout = TokenDropout(0.5)
    tokens = torch.ones(4, 6, 32)
    thinned = dropout(tokens)
    assert set(thinned.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(thinned, thinned[:, :1].expand_as(thinned))
    assert not torch.equal(thinned[0], thinned[1])
    assert torch.equal(dropout.eval()(tokens), tokens)


def test_queries_without_a_context_look_at_each_other() -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, num_heads=2)
    tokens, towards = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    found = []
    for context in ((), (tokens,)):
        attention.zero_grad()
        mixed, _ = attention(tokens, *context)
        mixed.backward(towards)
        found.append((mixed, [parameter.grad for parameter in attention.parameters()]))
    torch.testing.assert_close(found[0], found[1])


def test_each_pooling_head_weighs_its_share_of_the_features() -> None:
    torch.manual_seed(0)
    elements = torch.randn(3, 5, 8)
    pooled, weights = AttentionPooling(8, num_heads=2)(elements)
    shares = [weights[:, head, :, None] * elements[..., 4 * head :][..., :4] for head in (0, 1)]
    torch.testing.assert_close(pooled, torch.cat([share.sum(1) for share in shares], dim=-1))


def test_adding_thinned_tokens_is_thinning_and_adding() -> None:
    dropout, tokens, residual = TokenDropout(0.5), torch.randn(4, 6, 8), torch.randn(4, 6, 8)
    for training in (True, False):
        dropout.train(training)
        torch.manual_seed(0)
        expected = residual + dropout(tokens)
        torch.manual_seed(0)
        torch.testing.assert_close(dropout.add(residual, tokens), expected)


SAMPLES, HEADS, TOKENS, WIDTH = 5, 2, 7, 8
# A bfloat16 has 8 bits: results of about 1 agree to a few times 2**-8.
ROUNDING = 0.03
ONE_SAMPLE = HEADS * TOKENS * TOKENS * 2


def parts(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled queries, keys and values [N, H, T, W], as a projection of tokens leaves them."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(SAMPLES, TOKENS, 3, HEADS, WIDTH, generator=generator)
    tokens[:, :, 0] /= WIDTH**0.5
    queries, keys, values = (
        part.transpose(1, 2).to(dtype).requires_grad_() for part in tokens.unbind(2)
    )
    return queries, keys, values


def some_masked() -> Tensor:
    """[N, 1, 1, K]; from sample to sample one token less may be looked at."""
    return (torch.arange(TOKENS) < TOKENS - torch.arange(SAMPLES)[:, None])[:, None, None]


def count_fused(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The precisions in which the fused kernel is called from here on."""
    fused, calls = functional.scaled_dot_product_attention, []

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(args[0].dtype)
        return fused(*args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    return calls


@pytest.mark.parametrize("mask", [None, some_masked()], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("cached", "kept"),
    [(2**20, 2**20), (2 * ONE_SAMPLE, 2**20), (1, 2**20), (2**20, SAMPLES * ONE_SAMPLE - 1)],
    ids=["at_once", "two_by_two", "one_by_one", "too_much_to_keep"],
)
def test_bfloat16_on_a_cpu_rounds_what_float32_finds(
    mask: Tensor | None, cached: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "CACHED_SCORES", cached)
    monkeypatch.setattr(attention_module, "KEPT_WEIGHTS", kept)
    towards = torch.randn(SAMPLES, HEADS, TOKENS, WIDTH)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = parts(dtype)
        means = attend(*inputs, mask)
        assert means.dtype == dtype
        (means.float() * towards).sum().backward()
        grads = [part.grad for part in inputs if part.grad is not None]
        assert len(grads) == len(inputs)
        found.append([means.detach().float(), *(grad.float() for grad in grads)])
    for exact, rounded in zip(*found, strict=True):
        torch.testing.assert_close(rounded, exact, atol=ROUNDING, rtol=ROUNDING)


def test_the_fused_kernel_is_left_for_bfloat16_on_a_cpu_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = count_fused(monkeypatch)
    attend(*parts(torch.float32))
    assert calls == [torch.float32]
    attend(*parts(torch.bfloat16))
    assert calls == [torch.float32]


def test_weights_that_would_fill_the_memory_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "KEPT_WEIGHTS", SAMPLES * ONE_SAMPLE - 1)
    calls = count_fused(monkeypatch)
    attend(*parts(torch.bfloat16))
    assert calls == [torch.float32]
    with torch.no_grad():  # nothing is kept
        attend(*parts(torch.bfloat16))
    assert len(calls) == 1


@pytest.mark.parametrize("cached", [2**20, ONE_SAMPLE])
def test_dropout_leaves_out_weights_and_scales_the_others(
    cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "CACHED_SCORES", cached)
    torch.manual_seed(0)
    queries, keys, _ = parts(torch.bfloat16)
    ones = torch.eye(TOKENS, dtype=torch.bfloat16).expand(SAMPLES, HEADS, -1, -1)
    weights = attend(queries, keys, ones)  # what is found of a one is its weight
    thinned = attend(queries, keys, ones, dropout=0.5)
    left = thinned != 0
    assert 0.3 < left.float().mean() < 0.7
    torch.testing.assert_close(thinned[left], 2 * weights[left], atol=0.01, rtol=0.01)


def test_a_sample_without_anything_to_look_at_finds_zero_not_nan() -> None:
    mask = torch.ones(SAMPLES, 1, 1, TOKENS, dtype=torch.bool)
    mask[2] = False
    means = attend(*parts(torch.bfloat16), mask)
    assert means[2].eq(0).all()
    assert means[1].ne(0).any()
    assert means.isfinite().all()


HAS_BLOCKS = [
    name
    for name in MODELS
    if "activation_checkpointing" in inspect.signature(find_named(name, MODELS, "name")).parameters
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
    assert set(HAS_BLOCKS) == set(MODELS) - {"mean_linear", "tabular_only", "pca_mlp"}


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


def test_requested_weights_are_returned_and_carry_gradients(batch: SmallBatch) -> None:
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

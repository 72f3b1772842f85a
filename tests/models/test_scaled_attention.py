"""Attention written out for CPUs says the same as the fused kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models import scaled_attention
from models.scaled_attention import attend

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
    monkeypatch.setattr(scaled_attention, "CACHED_SCORES", cached)
    monkeypatch.setattr(scaled_attention, "KEPT_WEIGHTS", kept)
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
    monkeypatch.setattr(scaled_attention, "KEPT_WEIGHTS", SAMPLES * ONE_SAMPLE - 1)
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
    monkeypatch.setattr(scaled_attention, "CACHED_SCORES", cached)
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

"""Scaled dot-product attention, by the kernel that is fastest where the tensors are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Scores that may stay in a processor's cache from one product to the next, in bytes.
CACHED_SCORES = 2**21
# Weights of one call that may be kept for the backward pass, in bytes; the fused kernel keeps none.
KEPT_WEIGHTS = 2**28


def masked_softmax(scores: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Softmax over the valid entries; the others get exactly zero.

    Args:
        scores: Any shape.
        mask: Bool, broadcastable to ``scores``; True = valid. None means all are.
        dim: The axis that sums to one.

    Returns:
        Weights in float32, of the shape of ``scores``.
    """
    return _softmax(scores.float(), mask, dim)


def _softmax(scores: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """The same in the precision of the scores."""
    if mask is None:
        return scores.softmax(dim)
    # The lowest finite number, not -inf: a row without a valid entry would be NaN.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim) * mask


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """The mean of the values that each query finds (Vaswani et al. 2017, eq. 1).

    Args:
        queries: [N, H, Q, W], scaled: their products with the keys are the scores.
        keys: [N, H, K, W].
        values: [N, H, K, W].
        mask: Bool [N, 1, 1, K]; True = may be looked at.
        dropout: Share of the weights that is left out.

    Returns:
        Means [N, H, Q, W].
    """
    # Torch's fused kernel for CPUs takes seven times as long for a backward pass in bfloat16 as in
    # float32 (2.13); two matrix products with a softmax between them take half of float32's time.
    if queries.device.type == "cpu" and queries.dtype == torch.bfloat16:
        return _attend_on_cpu(queries, keys, values, mask, dropout)
    return functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, dropout_p=dropout, scale=1.0
    )


def _attend_on_cpu(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    """Written out, some samples at a time, so that the scores never leave the cache."""
    sample = queries.shape[1] * queries.shape[2] * keys.shape[2] * queries.element_size()
    if torch.is_grad_enabled() and sample * len(queries) > KEPT_WEIGHTS:
        found = attend(queries.float(), keys.float(), values.float(), mask, dropout)
        return found.to(values.dtype)
    at_once = max(1, CACHED_SCORES // sample)
    # Compiled code fuses by itself, and a count of parts would tie it to this number of samples.
    if torch.compiler.is_compiling() or at_once >= len(queries):
        return _written_out(queries, keys, values, mask, dropout)
    parts = zip(queries.split(at_once), keys.split(at_once), values.split(at_once), strict=True)
    starts = range(0, len(queries), at_once)
    masks = [None if mask is None else mask[start : start + at_once] for start in starts]
    return torch.cat(
        [
            _written_out(q, k, v, part_mask, dropout)
            for (q, k, v), part_mask in zip(parts, masks, strict=True)
        ]
    )


def _written_out(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    scores = queries @ keys.transpose(-1, -2)
    # Softmax of bfloat16 reckons in float32 and rounds once, as the product after it needs it.
    return functional.dropout(_softmax(scores, mask, -1), dropout) @ values

"""Attention blocks of the models: multi-head, pooling, feed-forward, transformer block."""

import math
from collections.abc import Callable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from models.checks import check_heads

# Scores that may stay in a processor's cache from one product to the next, in bytes.
CACHED_SCORES = 2**21
# Weights of one call that may be kept for the backward pass, in bytes; the fused kernel keeps none.
KEPT_WEIGHTS = 2**28


def masked_softmax(scores: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Softmax in float32 along ``dim`` over the entries where ``mask`` is True; others get zero."""
    return _softmax(scores.float(), mask, dim)


def _softmax(scores: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    if mask is None:
        return scores.softmax(dim)
    # The lowest finite number, not -inf: a row without a valid entry would be NaN.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim) * mask


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) by the fastest kernel.

    Queries [N, H, Q, W] are scaled already; keys are [N, H, K, W]; the mask, bool [N, 1, 1, K], is
    True where a key may be looked at.
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
    """Written out, some samples at a time, so that the scores stay in the cache."""
    sample = queries.shape[1] * queries.shape[2] * keys.shape[2] * queries.element_size()
    if torch.is_grad_enabled() and sample * len(queries) > KEPT_WEIGHTS:
        found = attend(queries.float(), keys.float(), values.float(), mask, dropout)
        return found.to(values.dtype)
    at_once = max(1, CACHED_SCORES // sample)
    # Compiled code fuses by itself, and a count of parts would tie it to this number of samples.
    if torch.compiler.is_compiling() or at_once >= len(queries):
        return _written_out(queries, keys, values, mask, dropout)
    masks = repeat(None) if mask is None else mask.split(at_once)
    qkv = zip(queries.split(at_once), keys.split(at_once), values.split(at_once), strict=True)
    pairs = zip(qkv, masks, strict=False)
    return torch.cat([_written_out(*part, own, dropout) for part, own in pairs])


def _written_out(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    scores = queries @ keys.transpose(-1, -2)
    # Softmax of bfloat16 reckons in float32 and rounds once, as the product after it needs it.
    return functional.dropout(_softmax(scores, mask, -1), dropout) @ values


def recomputed(wanted: bool, part: Callable[..., Any], *inputs: Any) -> Any:
    """Activation checkpointing of a part of a model (Chen et al. 2016), where wanted."""
    if not wanted or not torch.is_grad_enabled():
        return part(*inputs)
    return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=True)


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, eq. 1), with each head's weights if asked."""

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_heads(width, num_heads)
        self.num_heads = num_heads
        self.scale = math.sqrt(num_heads / width)  # of the scores: 1 / sqrt(features of a head)
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def _projected(self, queries: Tensor, context: Tensor | None) -> tuple[Tensor, ...]:
        """Scaled queries [N, H, Q, W / H], keys and values [N, H, K, W / H]."""
        query, key_value = self.query, self.key_value
        if context is not None:
            scaled = self.scale * query(queries)
            return *self._heads(scaled, parts=1), *self._heads(key_value(context), parts=2)
        # One product for all three reads the tokens once, and so does its backward pass; and of
        # its weights there are fewer to scale than of queries.
        weight = torch.cat([self.scale * query.weight, key_value.weight])
        bias = torch.cat([self.scale * query.bias, key_value.bias])
        return self._heads(functional.linear(queries, weight, bias), parts=3)

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[N, T, P * W] -> P tensors [N, H, T, W / H]."""
        # Heads before parts: so the backward pass puts the parts together in a single copy.
        split = x.unflatten(-1, (parts, self.num_heads, -1)).unbind(2)
        return tuple(part.transpose(1, 2) for part in split)

    def forward(
        self,
        queries: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from queries [N, Q, W] to the context [N, K, W], by default the queries.

        Returns the result [N, Q, W], and the weights [N, H, Q, K] if needed, else None.
        """
        q, k, v = self._projected(queries, context)
        mask = None if context_mask is None else context_mask[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = masked_softmax(q @ k.transpose(-1, -2), mask, dim=-1)
            mixed = functional.dropout(weights, dropout, training=self.training).to(v.dtype) @ v
        else:
            mixed = attend(q, k, v, mask, dropout)
        return self.out(mixed.transpose(1, 2).flatten(2)), weights


class TokenDropout(nn.Module):
    """Dropout of the same features of all tokens of a set (Gal 2016): few draws, fast on a CPU."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, tokens: Tensor) -> Tensor:
        """Thin out the tokens [N, T, W] in training."""
        kept = self._kept(tokens)
        return tokens if kept is None else tokens * kept

    def add(self, residual: Tensor, tokens: Tensor) -> Tensor:
        """The residual [N, T, W] plus the thinned tokens, in one pass over them."""
        kept = self._kept(tokens)
        return residual + tokens if kept is None else torch.addcmul(residual, tokens, kept)

    def _kept(self, tokens: Tensor) -> Tensor | None:
        """The factors of the tokens, [N, 1, W]; None: all one."""
        if not self.training or self.dropout == 0:
            return None
        return functional.dropout(torch.ones_like(tokens[:, :1]), self.dropout)


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU and dropout between them, applied to each token alone."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        widen, narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        super().__init__(widen, nn.GELU(), TokenDropout(dropout), narrow)


def linear_head(features: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Dropout and a linear layer: logits [B, C] of vectors [B, E]."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(features, num_classes))


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward (``expansion`` times as wide), each with a residual.

    Dropout is on what is added to the residual stream, not on the attention weights, where it would
    cost the fused kernel on a CPU.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        dropout: float = 0.0,
        expansion: int = 2,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.norm_attention = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, num_heads)
        self.dropout = TokenDropout(dropout)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, expansion * width, dropout)

    def forward(self, tokens: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Mix the tokens [N, T, W]; returns them and the weights [N, H, T, T] or None."""
        again = self.activation_checkpointing and self.training
        return recomputed(again, self._mix, tokens, need_weights)

    def _mix(self, tokens: Tensor, need_weights: bool) -> tuple[Tensor, Tensor | None]:
        normed = self.norm_attention(tokens)
        mixed, weights = self.attention(normed, need_weights=need_weights)
        tokens = self.dropout.add(tokens, mixed)
        fed = self.feed_forward(self.norm_feed_forward(tokens))
        return self.dropout.add(tokens, fed), weights


class AttentionPooling(nn.Module):
    """A weighted mean over a set with learned weights; each head weighs its share of features."""

    def __init__(self, width: int, num_heads: int = 1) -> None:
        super().__init__()
        check_heads(width, num_heads)
        self.num_heads = num_heads
        # No bias: the softmax would cancel it, and it would never get a gradient.
        self.score = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, num_heads, bias=False),
        )

    def forward(self, elements: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The mean [N, W] of a set [N, T, W], and the weights [N, H, T], zero where not valid."""
        scores = self.score(elements).transpose(1, 2)  # [N, H, T]
        weights = masked_softmax(scores, None if mask is None else mask[:, None], dim=-1)
        # Every head weighs all features, of which its own share is kept: H times the sums, but none
        # of the copies that the shares would have to be laid out in.
        pooled = weights.to(elements.dtype) @ elements  # [N, H, W]
        shares = pooled.unflatten(-1, (self.num_heads, -1)).diagonal(dim1=1, dim2=2)  # [N, W/H, H]
        return shares.transpose(1, 2).flatten(1), weights

"""Attention blocks shared by the models: multi-head, pooling, feed-forward, transformer block."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.size_checks import check_heads


def masked_softmax(scores: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Softmax over the valid entries; the others get exactly zero.

    Args:
        scores: Any shape.
        mask: Bool, broadcastable to ``scores``; True = valid. None means all are.
        dim: The axis that sums to one.

    Returns:
        Weights in float32, of the shape of ``scores``.
    """
    scores = scores.float()
    if mask is None:
        return scores.softmax(dim)
    # The lowest finite number, not -inf: a row without a valid entry would be NaN.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim) * mask


class MultiHeadAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, eq. 1).

    Unlike ``nn.MultiheadAttention`` it hands out the weights of each head when asked, and takes the
    fused kernel when not.

    Args:
        width: Features of a query, a key and the result.
        num_heads: Heads; must divide ``width``.
        dropout: On the attention weights.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_heads(width, num_heads)
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def _heads(self, x: Tensor) -> Tensor:
        """[N, T, W] -> [N, H, T, W / H]."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(
        self,
        queries: Tensor,
        context: Tensor,
        context_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Let every query look at the context.

        Args:
            queries: [N, Q, W].
            context: [N, K, W].
            context_mask: Bool [N, K]; True = may be looked at.
            need_weights: Also return the weights; costs the fused kernel.

        Returns:
            The result [N, Q, W], and the weights [N, H, Q, K] or None.
        """
        q = self._heads(self.query(queries))
        k, v = (self._heads(part) for part in self.key_value(context).chunk(2, dim=-1))
        mask = None if context_mask is None else context_mask[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            weights = masked_softmax(scores, mask, dim=-1)
            mixed = functional.dropout(weights, dropout, training=self.training).to(v.dtype) @ v
        else:
            mixed = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout
            )
        return self.out(mixed.transpose(1, 2).flatten(2)), weights


class TokenDropout(nn.Module):
    """Dropout that leaves out the same features of all tokens of one set.

    The variational dropout of Gal and Ghahramani (2016), over tokens for time steps. One draw a
    feature and not one a feature and token: on a CPU drawing is dearer than the layer it guards.

    Args:
        dropout: Share of the features that is left out.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, tokens: Tensor) -> Tensor:
        """Thin out the tokens [N, T, W] in training; leave them alone otherwise."""
        if not self.training or self.dropout == 0:
            return tokens
        kept = functional.dropout(torch.ones_like(tokens[:, :1]), self.dropout)
        return tokens * kept


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between them, applied to each token alone.

    Args:
        width: Features in and out.
        hidden: Features between.
        dropout: After each layer.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Linear(width, hidden),
            nn.GELU(),
            TokenDropout(dropout),
            nn.Linear(hidden, width),
            TokenDropout(dropout),
        )


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward, each with a residual.

    Args:
        width: Features of a token.
        num_heads: Heads; must divide ``width``.
        dropout: On what is added to the residual stream. Not on the attention weights, where it
            would cost the fused kernel on a CPU.
        expansion: Width of the feed-forward layer, in token widths.
    """

    def __init__(
        self, width: int, num_heads: int, dropout: float = 0.0, expansion: int = 2
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, num_heads)
        self.dropout = TokenDropout(dropout)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, expansion * width, dropout)

    def forward(self, tokens: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Mix the tokens [N, T, W]; returns them and the weights [N, H, T, T] or None."""
        normed = self.norm_attention(tokens)
        mixed, weights = self.attention(normed, normed, need_weights=need_weights)
        tokens = tokens + self.dropout(mixed)
        return tokens + self.feed_forward(self.norm_feed_forward(tokens)), weights


class AttentionPooling(nn.Module):
    """A weighted mean over a set with learned weights; each head weighs its share of features.

    Args:
        width: Features of an element.
        num_heads: Heads; must divide ``width``.
    """

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
        """Pool a set.

        Args:
            elements: [N, T, W].
            mask: Bool [N, T]; True = valid.

        Returns:
            The mean [N, W], and the weights [N, H, T] (zero where not valid).
        """
        scores = self.score(elements).transpose(1, 2)  # [N, H, T]
        weights = masked_softmax(scores, None if mask is None else mask[:, None], dim=-1)
        values = elements.unflatten(-1, (self.num_heads, -1))  # [N, T, H, W / H]
        pooled = torch.einsum("nht,nthw->nhw", weights.to(values.dtype), values)
        return pooled.flatten(1), weights

"""Attention blocks shared by the models: multi-head, pooling, feed-forward, transformer block."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.recomputation import recomputed
from models.scaled_attention import attend, masked_softmax
from models.size_checks import check_heads


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
        """Let every query look at the context.

        Args:
            queries: [N, Q, W].
            context: [N, K, W]; None: the queries look at each other.
            context_mask: Bool [N, K]; True = may be looked at.
            need_weights: Also return the weights; costs the fused kernel.

        Returns:
            The result [N, Q, W], and the weights [N, H, Q, K] or None.
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
        kept = self._kept(tokens)
        return tokens if kept is None else tokens * kept

    def add(self, residual: Tensor, tokens: Tensor) -> Tensor:
        """The residual [N, T, W] plus the thinned tokens, in one pass over them."""
        kept = self._kept(tokens)
        return residual + tokens if kept is None else torch.addcmul(residual, tokens, kept)

    def _kept(self, tokens: Tensor) -> Tensor | None:
        """What to multiply the tokens by, [N, 1, W]; None: by nothing."""
        if not self.training or self.dropout == 0:
            return None
        return functional.dropout(torch.ones_like(tokens[:, :1]), self.dropout)


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between them, applied to each token alone.

    Args:
        width: Features in and out.
        hidden: Features between.
        dropout: Between them. What comes out is thinned by whoever adds it to a residual.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Linear(width, hidden),
            nn.GELU(),
            TokenDropout(dropout),
            nn.Linear(hidden, width),
        )


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward, each with a residual.

    Args:
        width: Features of a token.
        num_heads: Heads; must divide ``width``.
        dropout: On what is added to the residual stream. Not on the attention weights, where it
            would cost the fused kernel on a CPU.
        expansion: Width of the feed-forward layer, in token widths.
        activation_checkpointing: In training, keep the tokens alone for the backward pass.
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
        # Every head weighs all features, of which its own share is kept: H times the sums, but none
        # of the copies that the shares would have to be laid out in.
        pooled = weights.to(elements.dtype) @ elements  # [N, H, W]
        shares = pooled.unflatten(-1, (self.num_heads, -1)).diagonal(dim1=1, dim2=2)  # [N, W/H, H]
        return shares.transpose(1, 2).flatten(1), weights

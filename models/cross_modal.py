"""Where spectra and covariates meet: attention in both directions, and gates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.attention import FeedForward, MultiHeadAttention, TokenDropout


class CrossModalAttention(nn.Module):
    """Scans look at covariates and covariates look at scans.

    Each direction: multi-head attention, residual, LayerNorm, feed-forward, residual, LayerNorm
    (post-norm, Vaswani et al. 2017, section 3.1).

    Args:
        width: Features of a token on both sides, W.
        num_heads: Heads; must divide ``width``.
        dropout: On weights, and on what is added to the residual stream.
        expansion: Width of the feed-forward layer, in token widths.
    """

    def __init__(
        self, width: int, num_heads: int = 4, dropout: float = 0.1, expansion: int = 2
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.token_dropout = TokenDropout(dropout)
        self.attend = nn.ModuleDict()
        self.norm_attention = nn.ModuleDict()
        self.feed_forward = nn.ModuleDict()
        self.norm_feed_forward = nn.ModuleDict()
        for side in ("scans", "covariates"):
            self.attend[side] = MultiHeadAttention(width, num_heads, dropout)
            self.norm_attention[side] = nn.LayerNorm(width)
            self.feed_forward[side] = FeedForward(width, expansion * width, dropout)
            self.norm_feed_forward[side] = nn.LayerNorm(width)

    def _look(
        self, side: str, queries: Tensor, context: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        mixed, weights = self.attend[side](queries, context, mask, need_weights)
        queries = self.norm_attention[side](queries + self.dropout(mixed))
        fed = self.feed_forward[side](queries)
        return self.norm_feed_forward[side](self.token_dropout.add(queries, fed)), weights

    def forward(
        self,
        scans: Tensor,
        covariates: Tensor,
        mask: Tensor | None,
        return_attention: bool = False,
        covariate_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Let both sides look at each other.

        Args:
            scans: [B, S, W].
            covariates: [B, D, W].
            mask: Bool [B, S]; True = a real scan. None: all are.
            return_attention: Also return the weights of every head.
            covariate_mask: Bool [B, D]; True = a known covariate. None: all are.

        Returns:
            Scans [B, S, W], covariates [B, D, W], and the weights: ``spectra_to_tabular``
            [B, H, S, D] and ``tabular_to_spectra`` [B, H, D, S], all zero where masked; no weights
            when not asked for.
        """
        seen_scans, from_scans = self._look(
            "scans", scans, covariates, covariate_mask, return_attention
        )
        seen_covariates, from_covariates = self._look(
            "covariates", covariates, scans, mask, return_attention
        )
        attention = {}
        if from_scans is not None and from_covariates is not None:
            attention["spectra_to_tabular"] = _zero_where_masked(from_scans, mask)
            attention["tabular_to_spectra"] = _zero_where_masked(from_covariates, covariate_mask)
        return (
            _zero_where_masked(seen_scans, mask),
            _zero_where_masked(seen_covariates, covariate_mask),
            attention,
        )


def _zero_where_masked(values: Tensor, mask: Tensor | None) -> Tensor:
    """Values [B, ..., T, X] with zeros where the mask [B, T] is False."""
    if mask is None:
        return values
    size, tokens = mask.shape
    return values * mask.view(size, *[1] * (values.dim() - 3), tokens, 1)


class EnhancedGating(nn.Module):
    """Several gates of the spectra, opened by both modalities, merged; with a residual.

    Every gate is a sigmoid a feature; how much each gate counts is chosen for each sample by a
    softmax. The result is ``LayerNorm(spec + dropout(merged * Linear(spec)))``.

    Args:
        spec_dim: Features of the spectra, E.
        tab_dim: Features of the covariates.
        num_gates: Gates that are merged.
        dropout: On what is added to the spectra.

    Example:
        >>> gating = EnhancedGating(spec_dim=8, tab_dim=4)
        >>> gated, gate = gating(torch.randn(3, 8), torch.randn(3, 4))
        >>> gated.shape, gate.shape
        (torch.Size([3, 8]), torch.Size([3, 8]))
    """

    def __init__(
        self, spec_dim: int, tab_dim: int, num_gates: int = 3, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.num_gates = num_gates
        self.gates = nn.Linear(spec_dim + tab_dim, num_gates * spec_dim)
        self.merge = nn.Linear(spec_dim + tab_dim, num_gates)
        self.value = nn.Linear(spec_dim, spec_dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(spec_dim)

    def forward(self, spec: Tensor, tab: Tensor) -> tuple[Tensor, Tensor]:
        """Gate the spectra [B, E] by both; returns them [B, E] and the merged gate [B, E]."""
        both = torch.cat([spec, tab], dim=-1)
        gates = self.gates(both).sigmoid().unflatten(-1, (self.num_gates, -1))  # [B, G, E]
        share = self.merge(both).softmax(dim=-1)  # [B, G]
        gate = (gates * share[..., None]).sum(dim=1)
        return self.norm(spec + self.dropout(gate * self.value(spec))), gate

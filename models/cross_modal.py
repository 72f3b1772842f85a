"""Attention between spectra and covariates in both directions, gates, and their fusion."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention import AttentionPooling, FeedForward, MultiHeadAttention, TokenDropout
from models.checks import check_heads, check_sizes

# A modality that comes as one vector is cut into this many groups of features.
VECTOR_GROUPS = 8


class CrossModalAttention(nn.Module):
    """Cross-attention of scans to covariates and back, post-norm (Vaswani et al. 2017, 3.1)."""

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
        for modality in ("scans", "covariates"):
            self.attend[modality] = MultiHeadAttention(width, num_heads, dropout)
            self.norm_attention[modality] = nn.LayerNorm(width)
            self.feed_forward[modality] = FeedForward(width, expansion * width, dropout)
            self.norm_feed_forward[modality] = nn.LayerNorm(width)

    def _look(
        self,
        modality: str,
        queries: Tensor,
        context: Tensor,
        mask: Tensor | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        mixed, weights = self.attend[modality](queries, context, mask, need_weights)
        queries = self.norm_attention[modality](queries + self.dropout(mixed))
        fed = self.feed_forward[modality](queries)
        return self.norm_feed_forward[modality](self.token_dropout.add(queries, fed)), weights

    def forward(
        self,
        scans: Tensor,
        covariates: Tensor,
        mask: Tensor | None,
        return_attention: bool = False,
        covariate_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Attend from scans [B, S, W] to covariates [B, D, W] and back; a mask of None hides none.

        Returns both, and, when asked for, the weights of every head: ``spectra_to_tabular`` [B, H,
        S, D] and ``tabular_to_spectra`` [B, H, D, S]; all are zero where masked.
        """
        seen, forth = self._look("scans", scans, covariates, covariate_mask, return_attention)
        seen_too, back = self._look("covariates", covariates, scans, mask, return_attention)
        attention = {}
        if forth is not None and back is not None:
            attention["spectra_to_tabular"] = _zero_where_masked(forth, mask)
            attention["tabular_to_spectra"] = _zero_where_masked(back, covariate_mask)
        seen_too = _zero_where_masked(seen_too, covariate_mask)
        return _zero_where_masked(seen, mask), seen_too, attention


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


class ModalityTokens(nn.Module):
    """Tokens of one modality at the width of the attention.

    A sequence is projected token by token. One vector is cut into ``groups`` of neighbouring
    features, each of which becomes a token by its own columns of the same projection: attention to
    a single token would have nothing to choose from.
    """

    groups: Tensor

    def __init__(self, features: int, width: int, groups: int = VECTOR_GROUPS) -> None:
        super().__init__()
        groups = min(groups, features)
        self.project = nn.Linear(features, width)
        group_of = torch.arange(features) * groups // features
        members = functional.one_hot(group_of, groups).T.float()  # [G, E]
        self.register_buffer("groups", members, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """[B, E] -> [B, G, W], or [B, T, E] -> [B, T, W]."""
        if values.dim() == 2:
            values = values[:, None] * self.groups.to(values.dtype)
        return self.project(values)


class EnhancedCrossAttentionFusion(nn.Module):
    """Cross-attention in both directions, attention pooling, and a gate (Arevalo et al. 2017)."""

    def __init__(
        self,
        spec_dim: int,
        tab_dim: int,
        hid_dim: int = 256,
        num_heads: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes(spec_dim=spec_dim, tab_dim=tab_dim, hid_dim=hid_dim)
        check_heads(hid_dim, num_heads, "hid_dim")
        self.spec_dim = spec_dim
        self.tab_dim = tab_dim
        self.spec_tokens = ModalityTokens(spec_dim, hid_dim)
        self.tab_tokens = ModalityTokens(tab_dim, hid_dim)
        self.cross_modal = CrossModalAttention(hid_dim, num_heads, dropout)
        self.spec_pooling = AttentionPooling(hid_dim)
        self.tab_pooling = AttentionPooling(hid_dim)
        self.gate = nn.Linear(2 * hid_dim, hid_dim)
        self.norm = nn.LayerNorm(hid_dim)

    def forward(
        self,
        spectra: Tensor,
        tabular: Tensor,
        mask: Tensor | None = None,
        tabular_mask: Tensor | None = None,
        return_attention: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Fuse one vector a sample [B, E], [B, F], or tokens [B, S, E], [B, D, F] with their masks.

        Returns the vector [B, W], and the weights: ``spectra_pooling`` [B, S], ``tabular_pooling``
        [B, D], ``fusion_gate`` [B, W] (1 = spectra, 0 = covariates); when asked for also
        ``spectra_to_tabular`` [B, H, S, D] and ``tabular_to_spectra`` [B, H, D, S]. For a vector S
        or D counts its groups of features. ValueError for a wrong shape.
        """
        spectra = _without_masked("spectra", spectra, mask, self.spec_dim)
        tabular = _without_masked("tabular", tabular, tabular_mask, self.tab_dim)
        scans, covariates, attention = self.cross_modal(
            self.spec_tokens(spectra),
            self.tab_tokens(tabular),
            mask,
            return_attention,
            tabular_mask,
        )
        spec, spec_weights = self.spec_pooling(scans, mask)
        tab, tab_weights = self.tab_pooling(covariates, tabular_mask)
        gate = self.gate(torch.cat([spec, tab], dim=-1)).sigmoid()
        return self.norm(gate * spec + (1 - gate) * tab), {
            "spectra_pooling": spec_weights.squeeze(1),
            "tabular_pooling": tab_weights.squeeze(1),
            "fusion_gate": gate,
            **attention,
        }


def _without_masked(name: str, values: Tensor, mask: Tensor | None, features: int) -> Tensor:
    """Zeros where masked, so that what stands there does not matter."""
    shape = list(values.shape)
    if values.dim() not in (2, 3) or shape[-1] != features:
        expected = f"[B, {features}] or [B, tokens, {features}]"
        raise ValueError(f"{name} has shape {shape}; expected {expected}")
    if mask is None:
        return values
    if values.dim() == 2 or mask.shape != values.shape[:2] or mask.dtype != torch.bool:
        expected = "no mask for one vector a sample" if values.dim() == 2 else f"bool {shape[:2]}"
        found = f"{str(mask.dtype).removeprefix('torch.')} {list(mask.shape)}"
        raise ValueError(f"the mask of {name} is {found}; expected {expected}")
    return values.masked_fill(~mask[..., None], 0.0)

"""From two modalities to one vector: attention in both directions, pooling, a gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention import AttentionPooling
from models.cross_modal import CrossModalAttention
from models.size_checks import check_heads, check_sizes

# A modality that comes as one vector is looked at in this many groups of features.
VECTOR_GROUPS = 8


class ModalityTokens(nn.Module):
    """Tokens of one modality at the width of the attention.

    A sequence is projected token by token. One vector alone would leave the other side nothing to
    choose from: the softmax over a single token is one, whatever was asked. So it is cut into
    groups of neighbouring features, each of which becomes a token by its own columns of the same
    projection.

    Args:
        features: Of a vector or a token, E.
        width: Of the result's tokens, W.
        groups: Tokens that a vector becomes, G; fewer where it has fewer features.
    """

    groups: Tensor

    def __init__(self, features: int, width: int, groups: int = VECTOR_GROUPS) -> None:
        super().__init__()
        groups = min(groups, features)
        self.project = nn.Linear(features, width)
        group_of = torch.arange(features) * groups // features
        members = functional.one_hot(group_of, groups).T.float()  # [G, E]
        self.register_buffer("groups", members, persistent=False)

    def forward(self, side: Tensor) -> Tensor:
        """[B, E] -> [B, G, W], or [B, T, E] -> [B, T, W]."""
        if side.dim() == 2:
            side = side[:, None] * self.groups.to(side.dtype)
        tokens: Tensor = self.project(side)
        return tokens


class EnhancedCrossAttentionFusion(nn.Module):
    """Spectra and covariates look at each other and are merged into one vector.

    Both directions of :class:`models.cross_modal.CrossModalAttention` (attention, residual,
    LayerNorm), then each side is pooled by attention, and a gate chooses, feature by feature,
    how much of either side goes on (the gated multimodal unit, Arevalo et al. 2017).

    Args:
        spec_dim: Features of the spectra's vector or tokens, E.
        tab_dim: Features of the covariates' vector or tokens, F.
        hid_dim: Features of the result, W.
        num_heads: Heads, H; must divide ``hid_dim``.
        dropout: On attention weights, and on what is added to the residual stream.

    Raises:
        ValueError: When a size does not fit.

    Example:
        >>> fusion = EnhancedCrossAttentionFusion(spec_dim=12, tab_dim=6, hid_dim=16, num_heads=4)
        >>> scans, covariates = torch.randn(2, 3, 12), torch.randn(2, 5, 6)
        >>> mask = torch.tensor([[True, True, True], [True, False, False]])
        >>> fused, attention = fusion(scans, covariates, mask)
        >>> fused.shape, attention["tabular_to_spectra"].shape
        (torch.Size([2, 16]), torch.Size([2, 4, 5, 3]))
    """

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
        """Fuse a batch.

        Args:
            spectra: One vector a sample [B, E], or one token a scan [B, S, E].
            tabular: One vector a sample [B, F], or one token a covariate [B, D, F].
            mask: Bool [B, S]; True = a real scan. None: all are.
            tabular_mask: Bool [B, D]; True = a known covariate. None: all are.
            return_attention: Also return the weights of every head, which costs the fused kernel.

        Returns:
            The vector [B, W], and the weights: ``spectra_pooling`` [B, S], ``tabular_pooling``
            [B, D], ``fusion_gate`` [B, W] (1 = spectra, 0 = covariates); when asked for also
            ``spectra_to_tabular`` [B, H, S, D] and ``tabular_to_spectra`` [B, H, D, S]. For a
            vector S or D counts its groups of features.

        Raises:
            ValueError: When a side or its mask has another shape than it should.
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


def _without_masked(name: str, side: Tensor, mask: Tensor | None, features: int) -> Tensor:
    """The side with zeros where it is masked, so that what stands there does not matter."""
    shape = list(side.shape)
    if side.dim() not in (2, 3) or shape[-1] != features:
        raise ValueError(
            f"{name} has shape {shape}; expected [B, {features}] or [B, tokens, {features}]"
        )
    if mask is None:
        return side
    if side.dim() == 2 or mask.shape != side.shape[:2] or mask.dtype != torch.bool:
        expected = "no mask for one vector a sample" if side.dim() == 2 else f"bool {shape[:2]}"
        raise ValueError(
            f"the mask of {name} is {str(mask.dtype).removeprefix('torch.')} "
            f"{list(mask.shape)}; expected {expected}"
        )
    return side.masked_fill(~mask[..., None], 0.0)

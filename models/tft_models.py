"""The multimodal transformer, and the names of all its parts."""

from typing import Any

import torch
from torch import Tensor, nn

from models.attention import linear_head
from models.checks import Outputs, check_tab_dim
from models.cross_modal import CrossModalAttention, EnhancedGating
from models.spectra_encoder import MultiScalePatches, ScanPooling, SpectraTFTEncoder, keywords_of
from models.tabular_encoder import CovariateTokens, TabularStaticEncoder
from models.tft_loss import TFTLoss, info_nce

__all__ = [
    "CovariateTokens",
    "CrossModalAttention",
    "EnhancedGating",
    "MultiScalePatches",
    "ScanPooling",
    "SpectraTFTEncoder",
    "TFTLoss",
    "TFTMultimodal",
    "TabularStaticEncoder",
    "info_nce",
]


@keywords_of(SpectraTFTEncoder)
class TFTMultimodal(nn.Module):
    """Spectra and covariates together.

    Every scan becomes a vector, the scans of a sample are pooled by attention, cross-attention
    links scans and covariates, the covariates gate the spectra, and the results are fused. An
    auxiliary head on each modality keeps both of them learning. The heads' logits are added to the
    main ones: log-odds of independent evidence add up, so the fusion only has to learn what the sum
    misses.

    ``d_model`` are a token's features, within a scan and between the modalities; in
    ``projection_dim`` ones the modalities are contrasted. The fusion of a share
    ``modality_dropout`` of the training samples sees one modality only. ``hidden`` is the modality,
    ``spectra`` or ``covariates``, that it does not see of any sample from then on, or None.

    Example:
        >>> model = TFTMultimodal(tab_dim=3, spec_len=64, patch_size=16, d_model=16)
        >>> mask = torch.ones(2, 4, dtype=torch.bool)
        >>> model(torch.randn(2, 4, 64), mask, torch.randn(2, 3))["logits"].shape
        torch.Size([2, 2])
    """

    hidden: str | None = None

    def __init__(
        self,
        tab_dim: int,
        spec_len: int,
        spec_emb: int = 256,
        tab_emb: int = 128,
        num_classes: int = 2,
        fusion_dim: int = 256,
        dropout: float = 0.1,
        *,
        d_model: int = 64,
        num_heads: int = 4,
        num_gates: int = 3,
        projection_dim: int = 64,
        modality_dropout: float = 0.0,
        scan_position: str | None = None,
        return_attention: bool = False,
        **encoder: Any,
    ) -> None:
        super().__init__()
        check_tab_dim(tab_dim, "TFTMultimodal")
        self.return_attention = return_attention
        self.modality_dropout = modality_dropout
        self.spectra_encoder = SpectraTFTEncoder(
            spec_len, spec_emb, d_model=d_model, num_heads=num_heads, dropout=dropout, **encoder
        )
        self.scan_pooling = ScanPooling(spec_emb, scan_position)
        self.tabular_encoder = TabularStaticEncoder(tab_dim, tab_emb, dropout=dropout)
        self.scan_tokens = nn.Linear(spec_emb, d_model)
        self.covariate_tokens = CovariateTokens(tab_dim, d_model)
        self.cross_modal = CrossModalAttention(d_model, num_heads, dropout)
        self.gating = EnhancedGating(spec_emb, tab_emb, num_gates, dropout)
        self.fusion = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(spec_emb + tab_emb + 2 * d_model, fusion_dim),
            nn.LayerNorm(fusion_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(fusion_dim, fusion_dim),
            nn.LayerNorm(fusion_dim),
            nn.GELU(),
        )
        self.head = linear_head(fusion_dim, num_classes, dropout)
        self.aux_head_spec = linear_head(spec_emb, num_classes, dropout)
        self.aux_head_tab = linear_head(tab_emb, num_classes, dropout)
        self.projection_spec = nn.Linear(spec_emb, projection_dim)
        self.projection_tab = nn.Linear(tab_emb, projection_dim)

    def _kept(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Which samples keep their spectra and their covariates: two [B, 1] of 0 and 1."""
        if self.hidden is not None:
            kept = like.new_ones(len(like), 1)
            return kept * (self.hidden != "spectra"), kept * (self.hidden != "covariates")
        draw = torch.rand(len(like), 1, device=like.device)
        half = self.modality_dropout / 2
        return (draw >= half).to(like.dtype), (draw < 1 - half).to(like.dtype)

    def forward(
        self, spectra: Tensor, mask: Tensor, tabular: Tensor, scan_rows: Tensor | None = None
    ) -> Outputs:
        """Predict a batch.

        Returns ``logits`` [B, C], ``embedding`` [B, fusion_dim], ``aux_logits_spec`` and
        ``aux_logits_tab`` [B, C], ``spec_embedding`` [B, spec_emb], ``tab_embedding`` [B, tab_emb],
        ``gated_spec`` [B, spec_emb], ``spec_projection`` and ``tab_projection`` [B, P], and
        ``attention_weights``: ``scan_pooling`` [B, S], ``feature_selection`` [B, D],
        ``spectra_gate`` [B, spec_emb]; with ``return_attention`` also those of the encoder as [B,
        S, ...] and both cross-attentions.
        """
        scans, patch_weights = self.spectra_encoder(spectra, mask, self.return_attention, scan_rows)
        spec, scan_weights, scans = self.scan_pooling(scans, mask)
        tab, selection = self.tabular_encoder(tabular)
        aux_logits_spec = self.aux_head_spec(spec)
        aux_logits_tab = self.aux_head_tab(tab)

        scan_tokens = self.scan_tokens(scans)
        covariate_tokens = self.covariate_tokens(tabular)
        seen_spec, seen_tab, sum_spec, sum_tab = spec, tab, aux_logits_spec, aux_logits_tab
        if self.hidden is not None or (self.training and self.modality_dropout > 0):
            keep_spec, keep_tab = self._kept(spec)
            seen_spec, sum_spec = spec * keep_spec, aux_logits_spec * keep_spec
            seen_tab, sum_tab = tab * keep_tab, aux_logits_tab * keep_tab
            scan_tokens = scan_tokens * keep_spec[..., None]
            covariate_tokens = covariate_tokens * keep_tab[..., None]

        scan_tokens, covariate_tokens, cross_attention = self.cross_modal(
            scan_tokens, covariate_tokens, mask, self.return_attention
        )
        crossed_spec = torch.einsum("bs,bsw->bw", scan_weights.to(scan_tokens.dtype), scan_tokens)
        gated_spec, gate = self.gating(seen_spec, seen_tab)
        parts = [gated_spec, seen_tab, crossed_spec, covariate_tokens.mean(dim=1)]
        embedding = self.fusion(torch.cat(parts, dim=-1))
        return {
            "logits": self.head(embedding) + sum_spec + sum_tab,
            "embedding": embedding,
            "aux_logits_spec": aux_logits_spec,
            "aux_logits_tab": aux_logits_tab,
            "spec_embedding": spec,
            "tab_embedding": tab,
            "gated_spec": gated_spec,
            "spec_projection": self.projection_spec(spec),
            "tab_projection": self.projection_tab(tab),
            "attention_weights": {
                "scan_pooling": scan_weights,
                "feature_selection": selection,
                "spectra_gate": gate,
                **cross_attention,
                **patch_weights,
            },
        }

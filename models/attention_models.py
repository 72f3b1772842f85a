"""Fusion by attention with encoders of its own, and the names of all its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from models.checks import check_heads, check_tab_dim
from models.cross_modal import EnhancedCrossAttentionFusion
from models.enhanced_attention import (
    HIDDEN_DIMS,
    EnhancedAttentionMultimodal,
    EnhancedClassifier,
)
from models.spectra_encoder import ScanPooling, SpectraTFTEncoder, keywords_of
from models.tabular_encoder import CovariateTokens, TabularStaticEncoder

__all__ = [
    "AttentionMultimodal",
    "EnhancedAttentionMultimodal",
    "EnhancedClassifier",
    "EnhancedCrossAttentionFusion",
]


@keywords_of(SpectraTFTEncoder)
class AttentionMultimodal(nn.Module):
    """Fusion by attention with encoders of its own, or on the results of others.

    ``model(spectra, mask, tabular)`` runs end to end: the transformer encodes the scans, each scan
    and each covariate becomes a token. The auxiliary heads' logits are added to the fusion's, so
    that its classifier only has to learn what their sum misses.
    ``model(spectra_result, tabular_result)`` fuses the results of other encoders, as
    :class:`EnhancedAttentionMultimodal` does.

    Args:
        tab_dim: Covariates, D; at least one. None, with ``spec_len`` None: no own encoders.
        spec_len: Points of a scan, L.
        spec_emb: Features of the spectra's embedding, E.
        tab_emb: Features of the covariates' embedding, F.
        num_classes: Width of the logits, C: classes, labels, or values to regress.
        fusion_dim: Features of the fused vector, W; of ``'enhanced_cross'`` only.
        dropout: Everywhere: tokens, attention, positions, fusion, classifier, heads.
        fusion_type: ``'enhanced_cross'`` or ``'concat'``.
        hidden_dims: Features of the classifier's hidden layers.
        fusion_heads: Heads between the modalities, H; must divide ``fusion_dim``.
        scan_position: None (scans are a set) or ``'index'`` (their order counts).
        return_attention: Return the weights of every head, which costs the fused kernel; may be
            switched on an existing model.
        encoder: Keywords of :class:`models.spectra_encoder.SpectraTFTEncoder`.

    Raises:
        ValueError: When there is no covariate, a size does not fit, or a name is unknown.

    Example:
        >>> import torch
        >>> model = AttentionMultimodal(tab_dim=3, spec_len=64, patch_size=16, d_model=16)
        >>> mask = torch.ones(2, 4, dtype=torch.bool)
        >>> model(torch.randn(2, 4, 64), mask, torch.randn(2, 3))["logits"].shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        tab_dim: int | None = None,
        spec_len: int | None = None,
        spec_emb: int = 256,
        tab_emb: int = 128,
        num_classes: int = 2,
        fusion_dim: int = 256,
        dropout: float = 0.1,
        *,
        fusion_type: str = "enhanced_cross",
        hidden_dims: Sequence[int] = HIDDEN_DIMS,
        fusion_heads: int = 8,
        scan_position: str | None = None,
        return_attention: bool = False,
        **encoder: Any,
    ) -> None:
        super().__init__()
        if (tab_dim is None) != (spec_len is None):
            raise ValueError(
                f"tab_dim and spec_len go together, got tab_dim={tab_dim} and spec_len={spec_len}; "
                "leave both out where the encoders are others"
            )
        check_heads(fusion_dim, fusion_heads, "fusion_dim", "fusion_heads")
        self.has_encoders = False
        self.covariate_tokens: CovariateTokens | None = None
        if tab_dim is not None and spec_len is not None:
            self.has_encoders = True
            check_tab_dim(tab_dim, "AttentionMultimodal")
            self.spectra_encoder = SpectraTFTEncoder(spec_len, spec_emb, dropout=dropout, **encoder)
            self.scan_pooling = ScanPooling(spec_emb, scan_position)
            self.tabular_encoder = TabularStaticEncoder(tab_dim, tab_emb, dropout=dropout)
            if fusion_type == "enhanced_cross":  # the other fusion looks at no tokens
                self.covariate_tokens = CovariateTokens(tab_dim, tab_emb)
        self.multimodal = EnhancedAttentionMultimodal(
            spec_emb,
            tab_emb,
            num_classes,
            fusion_type,
            hidden_dims=hidden_dims,
            fusion_dim=fusion_dim,
            num_heads=fusion_heads,
            dropout=dropout,
            return_attention=return_attention,
        )

    @property
    def return_attention(self) -> bool:
        """Whether the weights of every head are returned."""
        return self.multimodal.return_attention

    @return_attention.setter
    def return_attention(self, wanted: bool) -> None:
        self.multimodal.return_attention = wanted

    def forward(
        self,
        spectra: Tensor | Mapping[str, Tensor] | None = None,
        mask: Tensor | Mapping[str, Tensor] | None = None,
        tabular: Tensor | None = None,
        scan_rows: Tensor | None = None,
        *,
        spectra_result: Mapping[str, Tensor] | None = None,
        tabular_result: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Any]:
        """Predict a batch, from its data or from its encoders' results.

        Args:
            spectra: [B, S, L]; or the spectra's result, followed by the covariates'.
            mask: Bool [B, S]; True = a real scan, at least one a sample.
            tabular: [B, D].
            scan_rows: The mask as an index (:func:`models.spectra_encoder.encode_real_scans`).
            spectra_result: As :class:`EnhancedAttentionMultimodal` takes it.
            tabular_result: Likewise.

        Returns:
            What :class:`EnhancedAttentionMultimodal` returns. End to end ``spec_logits`` and
            ``tab_logits`` are the auxiliary heads', ``logits`` are the sum of both and of the
            classifier's, and ``attention_weights`` also has
            ``scan_pooling`` [B, S] and ``feature_selection`` [B, D]; with ``return_attention``
            ``patch_pooling`` [B, S, H, T] and ``patch_attention_<layer>`` [B, S, H, T, T].

        Raises:
            ValueError: When the arguments are neither, or do not fit.
        """
        if isinstance(spectra, Mapping):
            spectra_result, spectra = spectra, None
        if isinstance(mask, Mapping):
            tabular_result, mask = mask, None
        if spectra_result is not None and tabular_result is not None:
            outputs: dict[str, Any] = self.multimodal(spectra_result, tabular_result)
            return outputs
        if spectra is None or mask is None or tabular is None:
            raise ValueError(
                "AttentionMultimodal takes spectra, mask and tabular, "
                "or spectra_result and tabular_result"
            )
        return self._end_to_end(spectra, mask, tabular, scan_rows)

    def _end_to_end(
        self, spectra: Tensor, mask: Tensor, tabular: Tensor, scan_rows: Tensor | None
    ) -> dict[str, Any]:
        if not self.has_encoders:
            raise ValueError(
                "this AttentionMultimodal was built without tab_dim and spec_len, so it has no "
                "encoders; give it spectra_result and tabular_result"
            )
        scans, patch_attention = self.spectra_encoder(
            spectra, mask, self.return_attention, scan_rows
        )
        spec, scan_weights, scans = self.scan_pooling(scans, mask)
        tab, selection = self.tabular_encoder(tabular)
        auxiliary = self.multimodal.auxiliary_logits(spec, tab)
        spectra_result = {"embedding": spec, "logits": auxiliary[0]}
        tabular_result = {"embedding": tab, "logits": auxiliary[1]}
        if self.covariate_tokens is not None:
            spectra_result |= {"tokens": scans, "mask": mask}
            tabular_result["tokens"] = self.covariate_tokens(tabular)
        outputs = self.multimodal.combine(spectra_result, tabular_result, auxiliary)
        outputs["logits"] = outputs["logits"] + auxiliary[0] + auxiliary[1]
        outputs["attention_weights"] |= {
            "scan_pooling": scan_weights,
            "feature_selection": selection,
            **patch_attention,
        }
        return outputs

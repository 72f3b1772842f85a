"""Fusion by attention with encoders of its own, and the names of all its parts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.attention import linear_head
from models.checks import (
    Outputs,
    check_heads,
    check_result,
    check_same_batch,
    check_sizes,
    check_tab_dim,
)
from models.cross_modal import EnhancedCrossAttentionFusion
from models.spectra_encoder import ScanPooling, SpectraTFTEncoder, keywords_of
from models.tabular_encoder import CovariateTokens, TabularStaticEncoder

__all__ = [
    "AttentionMultimodal",
    "EnhancedAttentionMultimodal",
    "EnhancedClassifier",
    "EnhancedCrossAttentionFusion",
]

FUSION_TYPES = ("enhanced_cross", "concat")
HIDDEN_DIMS = (512, 256, 128)


class HiddenLayer(nn.Module):
    """Linear layer, LayerNorm, GELU, dropout; with ``use_residual`` a linear path beside them."""

    def __init__(
        self,
        features_in: int,
        features: int,
        dropout: float,
        use_residual: bool,
        use_layer_norm: bool,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(features_in, features),
            nn.LayerNorm(features) if use_layer_norm else nn.Identity(),
            nn.GELU(),
            nn.Dropout(dropout),
        )
        self.beside: nn.Module | None = None
        if use_residual:
            same = features_in == features
            self.beside = nn.Identity() if same else nn.Linear(features_in, features, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, features_in] -> [B, features]."""
        result: Tensor = self.body(vectors)
        return result if self.beside is None else result + self.beside(vectors)


class EnhancedClassifier(nn.Module):
    """Hidden layers of ``hidden_dims`` features, and a linear head."""

    def __init__(
        self,
        input_dim: int,
        num_classes: int = 2,
        hidden_dims: Sequence[int] = HIDDEN_DIMS,
        dropout: float = 0.1,
        *,
        use_residual: bool = True,
        use_layer_norm: bool = True,
    ) -> None:
        super().__init__()
        widths = [input_dim, *hidden_dims]
        check_sizes(
            input_dim=input_dim,
            num_classes=num_classes,
            **{f"hidden_dims[{layer}]": width for layer, width in enumerate(hidden_dims)},
        )
        self.layers = nn.ModuleList(
            HiddenLayer(before, width, dropout, use_residual, use_layer_norm)
            for before, width in zip(widths, hidden_dims, strict=False)
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits [B, C] of the vectors [B, E]."""
        for layer in self.layers:
            vectors = layer(vectors)
        return self.head(vectors)


class EnhancedAttentionMultimodal(nn.Module):
    """Fuses the embeddings of two encoders and classifies the fused vector.

    The encoders' own logits are returned unchanged and have no part in the main logits.
    ``fusion_type`` is ``'enhanced_cross'`` (attention in both directions and a gate, ``fusion_dim``
    features, W) or ``'concat'`` (both embeddings joined, E + F features). ``use_auxiliary`` puts a
    head of its own on each embedding, which keeps both encoders learning where they are trained
    along.
    """

    def __init__(
        self,
        spec_embedding_dim: int,
        tab_embedding_dim: int,
        num_classes: int = 2,
        fusion_type: str = "enhanced_cross",
        use_auxiliary: bool = True,
        hidden_dims: Sequence[int] = HIDDEN_DIMS,
        *,
        fusion_dim: int = 256,
        num_heads: int = 8,
        dropout: float = 0.1,
        return_attention: bool = False,
    ) -> None:
        super().__init__()
        if fusion_type not in FUSION_TYPES:
            known = " or ".join(repr(name) for name in FUSION_TYPES)
            raise ValueError(f"fusion_type must be {known}, got {fusion_type!r}")
        check_sizes(
            spec_embedding_dim=spec_embedding_dim,
            tab_embedding_dim=tab_embedding_dim,
            num_classes=num_classes,
            fusion_dim=fusion_dim,
        )
        check_heads(fusion_dim, num_heads, "fusion_dim")
        self.widths = spec_embedding_dim, tab_embedding_dim
        self.num_classes = num_classes
        self.use_auxiliary = use_auxiliary
        self.return_attention = return_attention
        self.fusion: EnhancedCrossAttentionFusion | None = None
        fused_dim = spec_embedding_dim + tab_embedding_dim
        if fusion_type == "enhanced_cross":
            sizes = *self.widths, fusion_dim, num_heads
            self.fusion = EnhancedCrossAttentionFusion(*sizes, dropout)
            fused_dim = fusion_dim
        self.classifier = EnhancedClassifier(fused_dim, num_classes, hidden_dims, dropout)
        if use_auxiliary:
            self.aux_head_spec = linear_head(spec_embedding_dim, num_classes, dropout)
            self.aux_head_tab = linear_head(tab_embedding_dim, num_classes, dropout)

    def forward(
        self, spectra_result: Mapping[str, Tensor], tabular_result: Mapping[str, Tensor]
    ) -> Outputs:
        """Predict a batch from its encoders' results; ValueError for a wrong key or shape.

        The spectra's have ``embedding`` [B, E] and ``logits`` [B, C]; optional ``tokens`` [B, S,
        E], one a scan, and their ``mask``, bool [B, S]; the covariates' [B, F] and [B, D, F]
        likewise. Without tokens the attention is on groups of the embedding's features.

        Returns ``logits`` [B, C] of the classifier, ``embedding`` [B, W], or [B, E + F] of
        ``'concat'``; ``spec_embedding``, ``tab_embedding``, ``spec_logits``, ``tab_logits`` as they
        came; with ``use_auxiliary`` ``aux_spec_logits`` and ``aux_tab_logits`` [B, C], also under
        the loss's names ``aux_logits_spec`` and ``aux_logits_tab``; ``attention_weights`` of
        :class:`models.cross_modal.EnhancedCrossAttentionFusion`, none for ``'concat'``.
        """
        check_result("spectra_result", spectra_result, self.widths[0], self.num_classes)
        check_result("tabular_result", tabular_result, self.widths[1], self.num_classes)
        check_same_batch(spectra_result, tabular_result)
        auxiliary = None
        if self.use_auxiliary:
            spec, tab = spectra_result["embedding"], tabular_result["embedding"]
            auxiliary = self.auxiliary_logits(spec, tab)
        return self.combine(spectra_result, tabular_result, auxiliary)

    def auxiliary_logits(self, spec: Tensor, tab: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each embedding [B, E], [B, F] alone: two [B, C]."""
        return self.aux_head_spec(spec), self.aux_head_tab(tab)

    def combine(
        self,
        spectra_result: Mapping[str, Tensor],
        tabular_result: Mapping[str, Tensor],
        auxiliary: tuple[Tensor, Tensor] | None,
    ) -> Outputs:
        """As :meth:`forward`, without checks, and with the auxiliary logits at hand."""
        spec, tab = spectra_result["embedding"], tabular_result["embedding"]
        attention: dict[str, Tensor] = {}
        if self.fusion is None:
            fused = torch.cat([spec, tab], dim=-1)
        else:
            fused, attention = self.fusion(
                _tokens_or_embedding(spectra_result),
                _tokens_or_embedding(tabular_result),
                spectra_result.get("mask"),
                tabular_result.get("mask"),
                return_attention=self.return_attention,
            )
        outputs: Outputs = {
            "logits": self.classifier(fused),
            "embedding": fused,
            "spec_embedding": spec,
            "tab_embedding": tab,
            "spec_logits": spectra_result["logits"],
            "tab_logits": tabular_result["logits"],
            "attention_weights": attention,
        }
        if auxiliary is not None:
            outputs["aux_spec_logits"] = outputs["aux_logits_spec"] = auxiliary[0]
            outputs["aux_tab_logits"] = outputs["aux_logits_tab"] = auxiliary[1]
        return outputs


def _tokens_or_embedding(result: Mapping[str, Tensor]) -> Tensor:
    tokens = result.get("tokens")
    return result["embedding"] if tokens is None else tokens


@keywords_of(SpectraTFTEncoder)
class AttentionMultimodal(nn.Module):
    """Fusion by attention with encoders of its own, or on the results of others.

    ``model(spectra, mask, tabular)`` runs end to end: the transformer encodes the scans, each scan
    and each covariate becomes a token. The auxiliary heads' logits are added to the fusion's, so
    that its classifier only has to learn what their sum misses. ``model(spectra_result,
    tabular_result)`` fuses the results of other encoders, as :class:`EnhancedAttentionMultimodal`
    does; ``tab_dim`` and ``spec_len`` None leave out the own ones.

    Example:
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
    ) -> Outputs:
        """Predict a batch, from its data or from its encoders' results, given by place or by name.

        Returns what :class:`EnhancedAttentionMultimodal` returns. End to end ``logits`` are the sum
        of the auxiliary heads' (``spec_logits``, ``tab_logits``) and of the classifier's, and
        ``attention_weights`` also has ``scan_pooling`` [B, S], ``feature_selection`` [B, D] and,
        with ``return_attention``, the encoder's as [B, S, ...].
        """
        if isinstance(spectra, Mapping):
            spectra_result, spectra = spectra, None
        if isinstance(mask, Mapping):
            tabular_result, mask = mask, None
        if spectra_result is not None and tabular_result is not None:
            return self.multimodal(spectra_result, tabular_result)
        if spectra is None or mask is None or tabular is None:
            taken = "spectra, mask and tabular, or spectra_result and tabular_result"
            raise ValueError(f"AttentionMultimodal takes {taken}")
        return self._end_to_end(spectra, mask, tabular, scan_rows)

    def _end_to_end(
        self, spectra: Tensor, mask: Tensor, tabular: Tensor, scan_rows: Tensor | None
    ) -> Outputs:
        if not self.has_encoders:
            raise ValueError(
                "this AttentionMultimodal was built without tab_dim and spec_len, so it has no "
                "encoders; give it spectra_result and tabular_result"
            )
        scans, patch_weights = self.spectra_encoder(spectra, mask, self.return_attention, scan_rows)
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
        pooling = {"scan_pooling": scan_weights, "feature_selection": selection}
        outputs["attention_weights"] |= pooling | patch_weights
        return outputs

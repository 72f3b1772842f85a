"""Fusion by attention of the results of two encoders, and its classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.checks import check_heads, check_result, check_same_batch, check_sizes
from models.cross_modal import EnhancedCrossAttentionFusion

FUSION_TYPES = ("enhanced_cross", "concat")
HIDDEN_DIMS = (512, 256, 128)


class HiddenLayer(nn.Module):
    """Linear layer, LayerNorm, GELU, dropout; with a linear path beside them.

    Args:
        features_in: Features of what comes in.
        features: Features of the result.
        dropout: On what is added to the linear path.
        use_residual: Have that path; the identity where the widths agree.
        use_layer_norm: Norm before the GELU.
    """

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
    """Hidden layers and a linear head.

    Args:
        input_dim: Features of a sample's vector, E.
        num_classes: Width of the logits, C: classes, labels, or values to regress.
        hidden_dims: Features of each hidden layer; none makes it a linear head.
        dropout: In each hidden layer.
        use_residual: A linear path beside each hidden layer.
        use_layer_norm: LayerNorm in each hidden layer.

    Raises:
        ValueError: When a size is below one.

    Example:
        >>> EnhancedClassifier(16, num_classes=3, hidden_dims=[8, 8])(torch.randn(2, 16)).shape
        torch.Size([2, 3])
    """

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
        logits: Tensor = self.head(vectors)
        return logits


class EnhancedAttentionMultimodal(nn.Module):
    """Fuses the embeddings of two encoders and classifies the fused vector.

    The encoders' own logits are returned unchanged and have no part in the main logits.

    Args:
        spec_embedding_dim: Features of the spectra's embedding, E.
        tab_embedding_dim: Features of the covariates' embedding, F.
        num_classes: Width of the logits, C: classes, labels, or values to regress.
        fusion_type: ``'enhanced_cross'`` (attention in both directions and a gate, W features) or
            ``'concat'`` (both embeddings joined, E + F features, no fusion layer).
        use_auxiliary: Put a head of its own on each embedding, which keeps both encoders learning
            where they are trained along.
        hidden_dims: Features of the classifier's hidden layers.
        fusion_dim: Features of the fused vector, W; of ``'enhanced_cross'`` only.
        num_heads: Heads, H; must divide ``fusion_dim``; likewise.
        dropout: In fusion, classifier and heads.
        return_attention: Return the weights of every head, which costs the fused kernel; may be
            switched on an existing model.

    Raises:
        ValueError: When a size does not fit, or ``fusion_type`` is unknown.

    Example:
        >>> model = EnhancedAttentionMultimodal(spec_embedding_dim=12, tab_embedding_dim=6)
        >>> spectra_result = {"embedding": torch.randn(4, 12), "logits": torch.randn(4, 2)}
        >>> tabular_result = {"embedding": torch.randn(4, 6), "logits": torch.randn(4, 2)}
        >>> model(spectra_result, tabular_result)["logits"].shape
        torch.Size([4, 2])
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
        self.spec_embedding_dim = spec_embedding_dim
        self.tab_embedding_dim = tab_embedding_dim
        self.num_classes = num_classes
        self.fusion_type = fusion_type
        self.use_auxiliary = use_auxiliary
        self.return_attention = return_attention
        self.fusion: EnhancedCrossAttentionFusion | None = None
        fused_dim = spec_embedding_dim + tab_embedding_dim
        if fusion_type == "enhanced_cross":
            self.fusion = EnhancedCrossAttentionFusion(
                spec_embedding_dim, tab_embedding_dim, fusion_dim, num_heads, dropout
            )
            fused_dim = fusion_dim
        self.classifier = EnhancedClassifier(fused_dim, num_classes, hidden_dims, dropout)
        if use_auxiliary:
            self.aux_head_spec = nn.Sequential(
                nn.Dropout(dropout), nn.Linear(spec_embedding_dim, num_classes)
            )
            self.aux_head_tab = nn.Sequential(
                nn.Dropout(dropout), nn.Linear(tab_embedding_dim, num_classes)
            )

    def forward(
        self, spectra_result: Mapping[str, Tensor], tabular_result: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """Predict a batch from its encoders' results.

        Args:
            spectra_result: ``embedding`` [B, E] and ``logits`` [B, C]; optional ``tokens``
                [B, S, E], one a scan, and their ``mask``, bool [B, S]. With tokens the attention
                is on them; without, on groups of the embedding's features.
            tabular_result: The same of the covariates: ``embedding`` [B, F], ``logits``;
                optional ``tokens`` [B, D, F], one a covariate, and ``mask`` [B, D].

        Returns:
            ``logits`` [B, C] of the classifier, ``embedding`` [B, W], or [B, E + F] of
            ``'concat'``; ``spec_embedding``, ``tab_embedding``, ``spec_logits``, ``tab_logits`` as
            they came; with ``use_auxiliary`` ``aux_spec_logits`` and ``aux_tab_logits`` [B, C],
            also under the loss's names ``aux_logits_spec`` and ``aux_logits_tab``;
            ``attention_weights`` of
            :class:`models.cross_modal.EnhancedCrossAttentionFusion`, none for
            ``'concat'``.

        Raises:
            ValueError: When a result lacks a key, or a tensor has another shape than it should.
        """
        widths = (self.spec_embedding_dim, self.tab_embedding_dim)
        check_result("spectra_result", spectra_result, widths[0], self.num_classes)
        check_result("tabular_result", tabular_result, widths[1], self.num_classes)
        check_same_batch(spectra_result, tabular_result)
        auxiliary = None
        if self.use_auxiliary:
            auxiliary = self.auxiliary_logits(
                spectra_result["embedding"], tabular_result["embedding"]
            )
        return self.combine(spectra_result, tabular_result, auxiliary)

    def auxiliary_logits(self, spec: Tensor, tab: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each embedding [B, E], [B, F] alone: two [B, C]."""
        return self.aux_head_spec(spec), self.aux_head_tab(tab)

    def combine(
        self,
        spectra_result: Mapping[str, Tensor],
        tabular_result: Mapping[str, Tensor],
        auxiliary: tuple[Tensor, Tensor] | None,
    ) -> dict[str, Any]:
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
        outputs: dict[str, Any] = {
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

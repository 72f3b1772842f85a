"""Models of one modality: for cohorts that have only one, and to tell what the other one adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from models.spectra_encoder import PATCH_SCALES, ScanPooling, SpectraTFTEncoder
from models.tabular_encoder import TabularStaticEncoder


class SpectraOnly(nn.Module):
    """The multimodal transformer's spectra branch with a head of its own.

    Args:
        spec_len: Points of a scan, L.
        num_classes: Classes, C.
        spec_emb: Features of the sample's vector, E.
        dropout: Everywhere: tokens, attention, positions, head.
        patch_size: Points of a token.
        d_model: Features of a token.
        num_layers: Transformer blocks.
        num_heads: Heads; must divide ``d_model``.
        position_features: Numbers that each position sends into its scan's vector.
        patch_scales: Kernel widths of the front end, in patches.
        scan_position: None (scans are a set) or ``'index'`` (their order counts).
        return_attention: Return the weights of every head.
        packed: Encode only the valid scans.

    Example:
        >>> import torch
        >>> model = SpectraOnly(spec_len=64, patch_size=16, d_model=16)
        >>> model(torch.randn(2, 4, 64), torch.ones(2, 4, dtype=torch.bool))["logits"].shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        spec_len: int,
        num_classes: int = 2,
        spec_emb: int = 256,
        dropout: float = 0.1,
        *,
        patch_size: int = 32,
        d_model: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        position_features: int = 4,
        patch_scales: Sequence[int] = PATCH_SCALES,
        scan_position: str | None = None,
        return_attention: bool = False,
        packed: bool = True,
    ) -> None:
        super().__init__()
        self.return_attention = return_attention
        self.spectra_encoder = SpectraTFTEncoder(
            spec_len,
            spec_emb,
            patch_size=patch_size,
            d_model=d_model,
            num_layers=num_layers,
            num_heads=num_heads,
            position_features=position_features,
            patch_scales=patch_scales,
            dropout=dropout,
            packed=packed,
        )
        self.scan_pooling = ScanPooling(spec_emb, scan_position)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(spec_emb, num_classes))

    def forward(
        self, spectra: Tensor, mask: Tensor, tabular: Tensor | None = None
    ) -> dict[str, Any]:
        """Classify a batch by its spectra.

        Args:
            spectra: [B, S, L].
            mask: Bool [B, S]; True = a real scan, at least one a sample.
            tabular: Not looked at.

        Returns:
            ``logits`` [B, C], ``embedding`` and ``spec_embedding`` [B, E], and
            ``attention_weights``: ``scan_pooling`` [B, S]; with ``return_attention`` also
            ``patch_pooling`` [B, S, H, T] and ``patch_attention_<layer>`` [B, S, H, T, T].
        """
        scans, patch_attention = self.spectra_encoder(spectra, mask, self.return_attention)
        embedding, scan_weights, _ = self.scan_pooling(scans, mask)
        return {
            "logits": self.head(embedding),
            "embedding": embedding,
            "spec_embedding": embedding,
            "attention_weights": {"scan_pooling": scan_weights, **patch_attention},
        }


class TabularOnly(nn.Module):
    """The multimodal transformer's covariate branch with a head of its own.

    Args:
        tab_dim: Covariates, D; at least one.
        num_classes: Classes, C.
        tab_emb: Features of the sample's vector, E.
        dropout: On the hidden layer, the vector and the head.
        hidden_dim: Features of the hidden layer; ``tab_emb`` when None.

    Example:
        >>> import torch
        >>> model = TabularOnly(tab_dim=3)
        >>> model(None, None, torch.randn(2, 3))["logits"].shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        tab_dim: int,
        num_classes: int = 2,
        tab_emb: int = 128,
        dropout: float = 0.1,
        *,
        hidden_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.tabular_encoder = TabularStaticEncoder(
            tab_dim, tab_emb, hidden_dim=hidden_dim, dropout=dropout
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(tab_emb, num_classes))

    def forward(
        self, spectra: Tensor | None, mask: Tensor | None, tabular: Tensor
    ) -> dict[str, Any]:
        """Classify a batch by its covariates.

        Args:
            spectra: Not looked at.
            mask: Not looked at.
            tabular: [B, D].

        Returns:
            ``logits`` [B, C], ``embedding`` and ``tab_embedding`` [B, E], and
            ``attention_weights``: ``feature_selection`` [B, D].
        """
        embedding, selection = self.tabular_encoder(tabular)
        return {
            "logits": self.head(embedding),
            "embedding": embedding,
            "tab_embedding": embedding,
            "attention_weights": {"feature_selection": selection},
        }

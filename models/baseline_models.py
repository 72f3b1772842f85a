"""Models to compare with: of one modality, to tell what the other adds, and late fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.ft_transformer import FTTransformer
from models.mean_linear import MeanLinear
from models.size_checks import check_tab_dim
from models.spectra_cnn import SpectraCNN
from models.spectra_encoder import PATCH_SCALES, ScanPooling, SpectraTFTEncoder
from models.tabular_encoder import TabularStaticEncoder

__all__ = [
    "FTTransformer",
    "LateFusion",
    "MeanLinear",
    "SpectraCNN",
    "SpectraOnly",
    "TabularOnly",
]


class SpectraOnly(nn.Module):
    """The multimodal transformer's spectra branch with a head of its own.

    Args:
        spec_len: Points of a scan, L.
        num_classes: Width of the logits, C: classes, labels, or values to regress.
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
        packed: Encode only the real scans.
        activation_checkpointing: In training, keep less for the backward pass and compute it a
            second time (:class:`models.spectra_encoder.SpectraTFTEncoder`).

    Example:
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
        activation_checkpointing: bool = False,
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
            activation_checkpointing=activation_checkpointing,
        )
        self.scan_pooling = ScanPooling(spec_emb, scan_position)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(spec_emb, num_classes))

    def forward(
        self,
        spectra: Tensor,
        mask: Tensor,
        tabular: Tensor | None = None,
        scan_rows: Tensor | None = None,
    ) -> dict[str, Any]:
        """Predict a batch by its spectra.

        Args:
            spectra: [B, S, L].
            mask: Bool [B, S]; True = a real scan, at least one a sample.
            tabular: Not looked at.
            scan_rows: The mask as an index (:func:`models.scan_packing.encode_real_scans`).

        Returns:
            ``logits`` [B, C], ``embedding`` and ``spec_embedding`` [B, E], and
            ``attention_weights``: ``scan_pooling`` [B, S]; with ``return_attention`` also
            ``patch_pooling`` [B, S, H, T] and ``patch_attention_<layer>`` [B, S, H, T, T].
        """
        scans, patch_attention = self.spectra_encoder(
            spectra, mask, self.return_attention, scan_rows
        )
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
        num_classes: Width of the logits, C: classes, labels, or values to regress.
        tab_emb: Features of the sample's vector, E.
        dropout: On the hidden layer, the vector and the head.
        hidden_dim: Features of the hidden layer; ``tab_emb`` when None.

    Example:
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
        """Predict a batch by its covariates.

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


class LateFusion(nn.Module):
    """Two models of one modality each, whose logits are added.

    The sum's two weights start at one and are learnt: for evidence of a class that both modalities
    share, and for a value to regress, of which each head by itself is asked the whole, a plain sum
    would be too much.

    Args:
        tab_dim: Covariates, D; at least one.
        spec_len: Points of a scan, L.
        num_classes: Width of the logits, C: classes, labels, or values to regress.
        spec_emb: Features of the spectra's vector.
        tab_emb: Features of the covariates' vector.
        dropout: Everywhere.
        patch_size: Points of a token.
        d_model: Features of a token.
        num_layers: Transformer blocks.
        num_heads: Heads; must divide ``d_model``.
        position_features: Numbers that each position sends into its scan's vector.
        patch_scales: Kernel widths of the front end, in patches.
        scan_position: None (scans are a set) or ``'index'`` (their order counts).
        return_attention: Return the weights of every head; may be switched on an existing model.
        packed: Encode only the real scans.
        activation_checkpointing: In training, keep less for the backward pass and compute it a
            second time (:class:`models.spectra_encoder.SpectraTFTEncoder`).

    Raises:
        ValueError: When there is no covariate, or a size does not fit.

    Example:
        >>> model = LateFusion(tab_dim=3, spec_len=64, patch_size=16, d_model=16)
        >>> mask = torch.ones(2, 4, dtype=torch.bool)
        >>> model(torch.randn(2, 4, 64), mask, torch.randn(2, 3))["logits"].shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        tab_dim: int,
        spec_len: int,
        num_classes: int = 2,
        spec_emb: int = 256,
        tab_emb: int = 128,
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
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_tab_dim(tab_dim, "LateFusion")
        self.spectra_branch = SpectraOnly(
            spec_len,
            num_classes,
            spec_emb,
            dropout,
            patch_size=patch_size,
            d_model=d_model,
            num_layers=num_layers,
            num_heads=num_heads,
            position_features=position_features,
            patch_scales=patch_scales,
            scan_position=scan_position,
            return_attention=return_attention,
            packed=packed,
            activation_checkpointing=activation_checkpointing,
        )
        self.tabular_branch = TabularOnly(tab_dim, num_classes, tab_emb, dropout)
        self.branch_weights = nn.Parameter(torch.ones(2))

    @property
    def return_attention(self) -> bool:
        """Whether the weights of every head are returned."""
        return self.spectra_branch.return_attention

    @return_attention.setter
    def return_attention(self, wanted: bool) -> None:
        self.spectra_branch.return_attention = wanted

    def forward(
        self, spectra: Tensor, mask: Tensor, tabular: Tensor, scan_rows: Tensor | None = None
    ) -> dict[str, Any]:
        """Predict a batch.

        Args:
            spectra: [B, S, L].
            mask: Bool [B, S]; True = a real scan, at least one a sample.
            tabular: [B, D].
            scan_rows: The mask as an index (:func:`models.scan_packing.encode_real_scans`).

        Returns:
            ``logits``, ``aux_logits_spec`` and ``aux_logits_tab`` [B, C], ``embedding``
            [B, spec_emb + tab_emb], ``spec_embedding``, ``tab_embedding``, and
            ``attention_weights`` of both branches.
        """
        spec = self.spectra_branch(spectra, mask, scan_rows=scan_rows)
        tab = self.tabular_branch(None, None, tabular)
        spec_weight, tab_weight = self.branch_weights.unbind()
        return {
            "logits": spec_weight * spec["logits"] + tab_weight * tab["logits"],
            "embedding": torch.cat([spec["embedding"], tab["embedding"]], dim=-1),
            "aux_logits_spec": spec["logits"],
            "aux_logits_tab": tab["logits"],
            "spec_embedding": spec["embedding"],
            "tab_embedding": tab["embedding"],
            "attention_weights": {**spec["attention_weights"], **tab["attention_weights"]},
        }

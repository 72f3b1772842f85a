"""Models to compare with: of one modality, and late fusion of both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.checks import check_sizes, check_spec_len, check_tab_dim
from models.spectra_cnn import SpectraCNN
from models.spectra_encoder import SpectraClassifier, SpectraTFTEncoder, keywords_of
from models.tabular_encoder import FTTransformer, TabularStaticEncoder

__all__ = [
    "FTTransformer",
    "LateFusion",
    "MeanLinear",
    "SpectraCNN",
    "SpectraOnly",
    "TabularOnly",
]


class MeanLinear(nn.Module):
    """One linear layer on the mean of a sample's real scans; each weight belongs to a point.

    Args:
        spec_len: Points of a scan, L.
        num_classes: Width of the logits, C: classes, labels, or values to regress.

    Raises:
        ValueError: When a size is below one.

    Example:
        >>> model = MeanLinear(spec_len=64)
        >>> model(torch.randn(2, 4, 64), torch.ones(2, 4, dtype=torch.bool))["logits"].shape
        torch.Size([2, 2])
    """

    def __init__(self, spec_len: int, num_classes: int = 2) -> None:
        super().__init__()
        check_sizes(spec_len=spec_len, num_classes=num_classes)
        self.spec_len = spec_len
        self.head = nn.Linear(spec_len, num_classes)

    def forward(
        self, spectra: Tensor, mask: Tensor, tabular: Tensor | None = None
    ) -> dict[str, Any]:
        """Predict a batch by its mean scans.

        Args:
            spectra: [B, S, L]; padded scans may hold anything, NaN too.
            mask: Bool [B, S]; True = a real scan, at least one a sample.
            tabular: Ignored.

        Returns:
            ``logits`` [B, C], and the mean scan as ``embedding`` and ``spec_embedding`` [B, L].

        Raises:
            ValueError: When the spectra have another length than the model was built for.
        """
        check_spec_len(spectra, self.spec_len)
        real = spectra.masked_fill(~mask[..., None], 0.0)
        mean = real.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return {"logits": self.head(mean), "embedding": mean, "spec_embedding": mean}


@keywords_of(SpectraTFTEncoder)
class SpectraOnly(SpectraClassifier):
    """The multimodal transformer's spectra branch with a head of its own.

    Args:
        spec_len: Points of a scan, L.
        num_classes: Width of the logits, C: classes, labels, or values to regress.
        spec_emb: Features of the sample's vector, E.
        dropout: Everywhere: tokens, attention, positions, head.
        scan_position: None (scans are a set) or ``'index'`` (their order counts).
        return_attention: Return the weights of every head: ``patch_pooling`` [B, S, H, T] and
            ``patch_attention_<layer>`` [B, S, H, T, T].
        encoder: Keywords of :class:`models.spectra_encoder.SpectraTFTEncoder`.

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
        scan_position: str | None = None,
        return_attention: bool = False,
        **encoder: Any,
    ) -> None:
        super().__init__(
            SpectraTFTEncoder(spec_len, spec_emb, dropout=dropout, **encoder),
            num_classes,
            spec_emb,
            dropout,
            scan_position,
            return_attention,
        )


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
        """Predict a batch by its covariates [B, D]; spectra and mask are ignored.

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


@keywords_of(SpectraOnly)
class LateFusion(nn.Module):
    """Two models of one modality each, whose logits are added.

    The two weights of the sum start at one and are learned: for evidence that both modalities
    share, and for a value to regress, a plain sum would be too large.

    Args:
        tab_dim: Covariates, D; at least one.
        spec_len: Points of a scan, L.
        num_classes: Width of the logits, C: classes, labels, or values to regress.
        spec_emb: Features of the spectra's vector.
        tab_emb: Features of the covariates' vector.
        dropout: Everywhere.
        spectra_branch: Keywords of :class:`SpectraOnly`.

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
        **spectra_branch: Any,
    ) -> None:
        super().__init__()
        check_tab_dim(tab_dim, "LateFusion")
        self.spectra_branch = SpectraOnly(
            spec_len, num_classes, spec_emb, dropout, **spectra_branch
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
            scan_rows: The mask as an index (:func:`models.spectra_encoder.encode_real_scans`).

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

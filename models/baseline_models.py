"""Models to compare with: of one modality, and late fusion of both."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.attention import linear_head, recomputed
from models.checks import Outputs, check_sizes, check_spec_len, check_tab_dim
from models.spectra_encoder import (
    COMPONENTS,
    Encoded,
    ScanEncoder,
    SpectraClassifier,
    SpectraTFTEncoder,
    keywords_of,
    mean_scan,
)
from models.tabular_encoder import FTTransformer, TabularStaticEncoder

__all__ = ["FTTransformer", "LateFusion", "MeanLinear", "SpectraCNN", "SpectraOnly", "TabularOnly"]

CHANNELS = (16, 32, 64)
# Channels are normed in this many groups, or as many as divide their number.
NORM_GROUPS = 4


def _norm(channels: int) -> nn.GroupNorm:
    """Within each scan (Wu and He 2018): no other scan of the batch, real or padded, counts."""
    return nn.GroupNorm(math.gcd(NORM_GROUPS, channels), channels)


class ResidualBlock(nn.Module):
    """Two convolutions (odd kernel) along the axis with a residual (He et al. 2016)."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel_size: int,
        stride: int,
        dropout: float,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        around = kernel_size // 2
        # No biases: the norms would cancel them, or have one themselves.
        self.body = nn.Sequential(
            nn.Conv1d(channels_in, channels, kernel_size, stride, around, bias=False),
            _norm(channels),
            nn.GELU(),
            nn.Dropout1d(dropout),
            nn.Conv1d(channels, channels, kernel_size, padding=around, bias=False),
            _norm(channels),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            strided = nn.Conv1d(channels_in, channels, 1, stride, bias=False)
            self.skip = nn.Sequential(strided, _norm(channels))
        self.activation = nn.GELU()

    def forward(self, signal: Tensor) -> Tensor:
        """[N, channels_in, T] -> [N, channels, ceil(T / stride)]."""
        again = self.activation_checkpointing and self.training
        return recomputed(again, self._convolve, signal)

    def _convolve(self, signal: Tensor) -> Tensor:
        return self.activation(self.body(signal) + self.skip(signal))


class SpectraCNNEncoder(ScanEncoder):
    """One vector a scan: strided stem, residual blocks, readouts; features of the whole scan.

    The residual network for time series of Wang et al. 2017; from the second on a stage of
    ``channels`` halves the positions. The stem sees twice as many points as it moves on,
    ``stem_stride``. ``components`` are the principal components that the whole scan is seen by.
    """

    def __init__(
        self,
        spec_len: int,
        spec_emb: int = 256,
        *,
        channels: Sequence[int] = CHANNELS,
        blocks_per_stage: int = 1,
        kernel_size: int = 7,
        stem_stride: int = 8,
        position_features: int = 4,
        components: int = COMPONENTS,
        dropout: float = 0.1,
        packed: bool = True,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(spec_len, packed)
        check_sizes(
            spec_len=spec_len,
            spec_emb=spec_emb,
            blocks_per_stage=blocks_per_stage,
            stem_stride=stem_stride,
            position_features=position_features,
            components=components,
            **{f"channels[{stage}]": width for stage, width in enumerate(channels)},
        )
        if not channels:
            raise ValueError("channels must name at least one stage")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and at least 1, got {kernel_size}")
        stem_kernel = 2 * stem_stride
        self.stem = nn.Sequential(
            nn.Conv1d(1, channels[0], stem_kernel, stem_stride, stem_stride, bias=False),
            _norm(channels[0]),
            nn.GELU(),
        )
        positions = spec_len // stem_stride + 1
        self.blocks = nn.ModuleList()
        before = channels[0]
        for stage, width in enumerate(channels):
            for number in range(blocks_per_stage):
                stride = 2 if stage > 0 and number == 0 else 1
                sizes = before, width, kernel_size, stride
                self.blocks.append(ResidualBlock(*sizes, dropout, activation_checkpointing))
                before, positions = width, math.ceil(positions / stride)
        readout = spec_emb, positions, before, 1, position_features, components
        self._add_readout(*readout, dropout)

    def encode(self, scans: Tensor, return_attention: bool = False) -> Encoded:
        """Vectors [N, E] of scans [N, L], and when asked for ``position_pooling`` [N, T]."""
        signal = self.stem(scans[:, None])
        for block in self.blocks:
            signal = block(signal)
        vector, weights = self._read_out(scans, signal.transpose(1, 2))
        return vector, {"position_pooling": weights.squeeze(1)} if return_attention else {}


class MeanLinear(nn.Module):
    """One linear layer on the mean of a sample's real scans; each weight belongs to a point."""

    def __init__(self, spec_len: int, num_classes: int = 2) -> None:
        super().__init__()
        check_sizes(spec_len=spec_len, num_classes=num_classes)
        self.spec_len = spec_len
        self.head = nn.Linear(spec_len, num_classes)

    def forward(self, spectra: Tensor, mask: Tensor, tabular: Tensor | None = None) -> Outputs:
        """``logits`` of the mean scan, and that as ``embedding`` and ``spec_embedding`` [B, L]."""
        check_spec_len(spectra, self.spec_len)
        mean = mean_scan(spectra, mask)
        return {"logits": self.head(mean), "embedding": mean, "spec_embedding": mean}


@keywords_of(SpectraTFTEncoder)
class SpectraOnly(SpectraClassifier):
    """The multimodal transformer's spectra branch with a head of its own."""

    encoder_type = SpectraTFTEncoder


@keywords_of(SpectraCNNEncoder)
class SpectraCNN(SpectraClassifier):
    """Scans by a residual network, pooled by attention, with a head."""

    encoder_type = SpectraCNNEncoder


class TabularOnly(nn.Module):
    """The multimodal transformer's covariate branch with a head of its own."""

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
        self.head = linear_head(tab_emb, num_classes, dropout)

    def forward(self, spectra: Tensor | None, mask: Tensor | None, tabular: Tensor) -> Outputs:
        """Predict by covariates [B, D]; the gate of each is ``feature_selection`` [B, D]."""
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
        sizes = spec_len, num_classes, spec_emb
        self.spectra_branch = SpectraOnly(*sizes, dropout, **spectra_branch)
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
    ) -> Outputs:
        """Predict a batch; the branches' logits are ``aux_logits_spec`` and ``aux_logits_tab``."""
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

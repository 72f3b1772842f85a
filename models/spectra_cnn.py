"""A residual network along the axis: from the scans of a sample to one vector a scan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.attention import AttentionPooling, recomputed
from models.checks import check_sizes
from models.spectra_encoder import ScanEncoder, SpectraClassifier, keywords_of

CHANNELS = (16, 32, 64)
# Channels are normed in this many groups, or as many as divide their number.
NORM_GROUPS = 4


def _norm(channels: int) -> nn.GroupNorm:
    """Within each scan (Wu and He 2018): no other scan of the batch, real or padded, counts."""
    return nn.GroupNorm(math.gcd(NORM_GROUPS, channels), channels)


class ResidualBlock(nn.Module):
    """Two convolutions along the axis with a residual (He et al. 2016).

    Args:
        channels_in: Channels of what comes in.
        channels: Channels of the result.
        kernel_size: Points that a convolution sees; odd.
        stride: Of the first convolution.
        dropout: Share of whole channels that is left out between the two.
        activation_checkpointing: In training, keep the signal alone for the backward pass.
    """

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
            self.skip = nn.Sequential(
                nn.Conv1d(channels_in, channels, 1, stride, bias=False), _norm(channels)
            )
        self.activation = nn.GELU()

    def forward(self, signal: Tensor) -> Tensor:
        """[N, channels_in, T] -> [N, channels, ceil(T / stride)]."""
        again = self.activation_checkpointing and self.training
        return recomputed(again, self._convolve, signal)

    def _convolve(self, signal: Tensor) -> Tensor:
        result: Tensor = self.activation(self.body(signal) + self.skip(signal))
        return result


class SpectraCNNEncoder(ScanEncoder):
    """One vector a scan: strided stem, stages of residual blocks, pooling, position readout.

    The residual network for time series of Wang et al. 2017 with strides between its stages, and
    the position readout of :class:`models.spectra_encoder.SpectraTFTEncoder`.

    Args:
        spec_len: Points of a scan, L.
        spec_emb: Features of a scan's vector, E.
        channels: Of each stage; from the second on a stage halves the positions.
        blocks_per_stage: Residual blocks.
        kernel_size: Positions that a convolution sees; odd.
        stem_stride: Points of a position before the first stage; the stem sees twice as many.
        position_features: Numbers that each position sends into the vector.
        dropout: On channels within the blocks, and before the vector.
        packed: Encode only the real scans.
        activation_checkpointing: In training, keep only the inputs of each block for the backward
            pass, and compute the rest again: less memory, more time.

    Raises:
        ValueError: When a size is below one, the kernel even or the stages none.

    Example:
        >>> encoder = SpectraCNNEncoder(100, 16, channels=(8, 16))
        >>> vectors, attention = encoder(torch.randn(4, 3, 100), torch.ones(4, 3, dtype=torch.bool))
        >>> vectors.shape
        torch.Size([4, 3, 16])
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
            for block in range(blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                self.blocks.append(
                    ResidualBlock(
                        before, width, kernel_size, stride, dropout, activation_checkpointing
                    )
                )
                before, positions = width, math.ceil(positions / stride)
        self.pooling = AttentionPooling(before)
        self.position_readout = nn.Linear(before, position_features)
        self.vector = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(before + positions * position_features, spec_emb),
            nn.LayerNorm(spec_emb),
            nn.GELU(),
        )

    def encode(
        self, scans: Tensor, return_attention: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Encode scans [N, L] that all are real.

        Returns:
            Vectors [N, E], and the weights ``position_pooling`` [N, T] when asked for.
        """
        signal = self.stem(scans[:, None])
        for block in self.blocks:
            signal = block(signal)
        positions = signal.transpose(1, 2)  # [N, T, channels]
        pooled, weights = self.pooling(positions)
        readout = self.position_readout(positions).flatten(1)
        attention = {"position_pooling": weights.squeeze(1)} if return_attention else {}
        return self.vector(torch.cat([pooled, readout], dim=-1)), attention


@keywords_of(SpectraCNNEncoder)
class SpectraCNN(SpectraClassifier):
    """Scans by a residual network, pooled by attention, with a head; covariates are ignored.

    Args:
        spec_len: Points of a scan, L.
        num_classes: Width of the logits, C: classes, labels, or values to regress.
        spec_emb: Features of the sample's vector, E.
        dropout: On channels, positions and head.
        scan_position: None (scans are a set) or ``'index'`` (their order counts).
        return_attention: Return the weights ``position_pooling`` [B, S, T] of the pooling along
            the axis.
        encoder: Keywords of :class:`SpectraCNNEncoder`.

    Example:
        >>> model = SpectraCNN(spec_len=64, channels=(8, 16))
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
            SpectraCNNEncoder(spec_len, spec_emb, dropout=dropout, **encoder),
            num_classes,
            spec_emb,
            dropout,
            scan_position,
            return_attention,
        )

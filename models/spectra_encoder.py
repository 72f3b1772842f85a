"""From the scans of a sample to one vector a scan: patches, transformer, pooling, positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention import AttentionPooling, TokenDropout, TransformerBlock
from models.recomputation import recomputed
from models.scan_packing import encode_real_scans
from models.size_checks import check_heads, check_sizes, check_spec_len

# Widths of the front end's kernels, in patches: a narrow peak, its neighbours, the local baseline.
PATCH_SCALES = (1, 2, 4)
# The longest period of the sinusoidal scan positions (Vaswani et al. 2017, section 3.5).
LONGEST_PERIOD = 10_000.0


class MultiScalePatches(nn.Module):
    """Multi-scale convolution fusion, written as one matrix product per kernel width.

    For each scale a kernel of ``scale * patch_size`` points moves by one patch; what the kernels
    see is joined and mixed. No wide activation at full resolution is ever made.

    Args:
        spec_len: Points of a scan; padded with zeros on the right to whole patches.
        patch_size: Points that a token stands for.
        width: Features of a token.
        scales: Kernel widths in patches.
        dropout: On the joined features.
        activation_checkpointing: In training, keep the scans alone for the backward pass.
    """

    def __init__(
        self,
        spec_len: int,
        patch_size: int,
        width: int,
        scales: Sequence[int] = PATCH_SCALES,
        dropout: float = 0.0,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.activation_checkpointing = activation_checkpointing
        self.patch_size = patch_size
        self.num_patches = math.ceil(spec_len / patch_size)
        self.kernels = [scale * patch_size for scale in scales]
        self.projections = nn.ModuleList(nn.Linear(kernel, width) for kernel in self.kernels)
        self.fuse = nn.Sequential(
            nn.GELU(), TokenDropout(dropout), nn.Linear(width * len(self.kernels), width)
        )

    def forward(self, scans: Tensor) -> Tensor:
        """Cut and project the scans [N, L]; returns tokens [N, T, W]."""
        again = self.activation_checkpointing and self.training
        return recomputed(again, self._cut, scans)

    def _cut(self, scans: Tensor) -> Tensor:
        missing = self.num_patches * self.patch_size - scans.shape[-1]
        # Padded once, for the widest kernel; the others see a part of the same.
        most = max(self.kernels) - self.patch_size
        padded = functional.pad(scans, (most // 2, missing + most - most // 2))
        views = []
        for kernel, projection in zip(self.kernels, self.projections, strict=True):
            start = most // 2 - (kernel - self.patch_size) // 2
            seen = padded[:, start:].unfold(-1, kernel, self.patch_size)[:, : self.num_patches]
            views.append(projection(seen))
        tokens: Tensor = self.fuse(torch.cat(views, dim=-1))
        return tokens


class SpectraTFTEncoder(nn.Module):
    """One vector a scan: multi-scale patches, transformer, attention pooling, position readout.

    Attention pooling alone forgets where on the axis a token stood, and where a peak stands is
    what a spectrum is about. So each position also has a way of its own into the vector:
    ``position_features`` numbers a token, laid side by side, and a linear map of them.

    Args:
        spec_len: Points of a scan, L.
        spec_emb: Features of a scan's vector, E.
        patch_size: Points of a token; T = ceil(L / patch_size) tokens a scan.
        d_model: Features of a token.
        num_layers: Transformer blocks.
        num_heads: Heads; must divide ``d_model``.
        position_features: Numbers that each position sends into the vector.
        patch_scales: Kernel widths of the front end, in patches.
        dropout: On tokens, attention, position readout and vector.
        packed: Encode only the real scans, and put zeros elsewhere; the vectors of real scans
            are the same either way.
        activation_checkpointing: In training, keep what goes into the front end and into each
            block for the backward pass, and compute the rest a second time: memory for time.

    Raises:
        ValueError: When ``num_heads`` does not divide ``d_model``, or a size is not positive.

    Example:
        >>> encoder = SpectraTFTEncoder(100, 16, patch_size=16, d_model=8, num_heads=2)
        >>> vectors, attention = encoder(torch.randn(4, 3, 100), torch.ones(4, 3, dtype=torch.bool))
        >>> vectors.shape
        torch.Size([4, 3, 16])
    """

    def __init__(
        self,
        spec_len: int,
        spec_emb: int = 256,
        *,
        patch_size: int = 32,
        d_model: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        position_features: int = 4,
        patch_scales: Sequence[int] = PATCH_SCALES,
        dropout: float = 0.1,
        packed: bool = True,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(
            spec_len=spec_len,
            spec_emb=spec_emb,
            patch_size=patch_size,
            d_model=d_model,
            position_features=position_features,
        )
        check_heads(d_model, num_heads)
        self.spec_len = spec_len
        self.spec_emb = spec_emb
        self.packed = packed
        self.patches = MultiScalePatches(
            spec_len, patch_size, d_model, patch_scales, dropout, activation_checkpointing
        )
        tokens = self.patches.num_patches
        # 0.02: the usual spread of learned positions (Devlin et al. 2019; Dosovitskiy et al. 2021).
        self.positions = nn.Parameter(torch.randn(tokens, d_model) * 0.02)
        self.token_dropout = TokenDropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                d_model,
                num_heads,
                dropout,
                activation_checkpointing=activation_checkpointing,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.pooling = AttentionPooling(d_model, num_heads)
        self.position_readout = nn.Linear(d_model, position_features)
        self.vector = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(d_model + tokens * position_features, spec_emb),
            nn.LayerNorm(spec_emb),
            nn.GELU(),
        )

    def encode(
        self, scans: Tensor, return_attention: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Encode scans that all are real.

        Args:
            scans: [N, L].
            return_attention: Also return the weights of every head.

        Returns:
            Vectors [N, E], and the weights: ``patch_pooling`` [N, H, T] and
            ``patch_attention_<layer>`` [N, H, T, T]; empty when not asked for.
        """
        attention: dict[str, Tensor] = {}
        tokens = self.patches(scans)
        # Under autocast a sum with float32 parameters would make all that follows float32, too:
        # twice the bytes in every layer.
        tokens = self.token_dropout(tokens + self.positions.to(tokens.dtype))
        for layer, block in enumerate(self.blocks):
            tokens, weights = block(tokens, need_weights=return_attention)
            if weights is not None:
                attention[f"patch_attention_{layer}"] = weights
        tokens = self.norm(tokens).to(tokens.dtype)
        pooled, pooling_weights = self.pooling(tokens)
        if return_attention:
            attention["patch_pooling"] = pooling_weights
        readout = self.position_readout(tokens).flatten(1)
        return self.vector(torch.cat([pooled, readout], dim=-1)), attention

    def forward(
        self,
        spectra: Tensor,
        mask: Tensor,
        return_attention: bool = False,
        scan_rows: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Encode the scans of a batch.

        Args:
            spectra: [B, S, L]; padded scans may hold anything, NaN too.
            mask: Bool [B, S]; True = a real scan.
            return_attention: Also return the weights of every head.
            scan_rows: The mask as an index (:func:`models.scan_packing.encode_real_scans`).

        Returns:
            Vectors [B, S, E], zero where padded, and the weights as [B, S, H, T] and
            [B, S, H, T, T], zero where padded.

        Raises:
            ValueError: When the spectra have another length than the encoder was built for.
        """
        check_spec_len(spectra, self.spec_len)
        return encode_real_scans(
            lambda scans: self.encode(scans, return_attention),
            spectra,
            mask,
            packed=self.packed,
            scan_rows=scan_rows,
        )


class ScanPooling(nn.Module):
    """From the vectors of a sample's scans to one vector a sample.

    Replicate scans are a set, so their order changes nothing. Where it means something (LC runs,
    time courses) ``scan_position='index'`` tells each scan its place, by sinusoids that know no
    longest run.

    Args:
        spec_emb: Features of a scan's vector, E.
        scan_position: None or ``'index'``.

    Raises:
        ValueError: When ``scan_position`` is something else.
    """

    def __init__(self, spec_emb: int, scan_position: str | None = None) -> None:
        super().__init__()
        if scan_position not in (None, "index"):
            raise ValueError(f"scan_position must be None or 'index', got {scan_position!r}")
        self.pooling = AttentionPooling(spec_emb)
        self.place = nn.Linear(spec_emb, spec_emb) if scan_position == "index" else None

    def _sinusoids(self, vectors: Tensor) -> Tensor:
        """Places [S, E] (Vaswani et al. 2017, section 3.5)."""
        scans, width = vectors.shape[-2:]
        feature = torch.arange(width, device=vectors.device)
        rate = LONGEST_PERIOD ** (-(feature - feature % 2).float() / width)
        angle = torch.arange(scans, device=vectors.device)[:, None] * rate
        return torch.where(feature % 2 == 0, angle.sin(), angle.cos())

    def forward(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pool the scans of each sample.

        Args:
            vectors: [B, S, E].
            mask: Bool [B, S]; True = a real scan.

        Returns:
            The sample's vector [B, E], the scans' weights [B, S], and the scans' vectors [B, S, E]
            with their place added where it is asked for.
        """
        if self.place is not None:
            placed = vectors + self.place(self._sinusoids(vectors))
            vectors = placed * mask[..., None]
        pooled, weights = self.pooling(vectors, mask)
        return pooled, weights.squeeze(1), vectors

"""From the scans of a sample to one vector a scan, and from those to one vector a sample."""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention import (
    AttentionPooling,
    TokenDropout,
    TransformerBlock,
    linear_head,
    recomputed,
)
from models.checks import Outputs, check_heads, check_sizes, check_spec_len

if TYPE_CHECKING:
    from models.combination import TrainingSet

# Widths of the front end's kernels, in patches: a narrow peak, its neighbours, the local baseline.
PATCH_SCALES = (1, 2, 4)
# The longest period of the sinusoidal scan positions (Vaswani et al. 2017, section 3.5).
LONGEST_PERIOD = 10_000.0
# Of the whole scan: principal components, at most one for as many training samples, and the
# products of features.
COMPONENTS, SAMPLES_PER_COMPONENT, PAIRS = 64, 4, 64
# The noise on the components has a variance of 1 in training with so many samples or fewer.
NOISY_SAMPLES = 400
# A layer of all points learns as slowly as one of so many.
SLOW_POINTS = 64

Model = TypeVar("Model", bound=type[nn.Module])
# Vectors, and the attention weights by name.
Encoded = tuple[Tensor, dict[str, Tensor]]


def keywords_of(inner: type[nn.Module]) -> Callable[[Model], Model]:
    """Class decorator: ``**keywords`` of a constructor are the keyword arguments of ``inner``."""

    def decorate(cls: Model) -> Model:
        inherited: Any = cls.__init__  # type: ignore[misc]
        own = inspect.signature(inherited)

        @functools.wraps(inherited, assigned=("__doc__", "__module__"), updated=())
        def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            inherited(self, *args, **kwargs)

        plain = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        added = [
            p
            for p in inspect.signature(inner).parameters.values()
            if p.kind is p.KEYWORD_ONLY and p.name not in own.parameters
        ]
        hints = typing.get_type_hints(inner.__init__)
        annotations = inherited.__annotations__ | {p.name: hints[p.name] for p in added}
        vars(init).update(__signature__=own.replace(parameters=[*plain, *added]))
        init.__annotations__ = annotations
        cls.__init__ = init  # type: ignore[method-assign]
        return cls

    return decorate


def encode_real_scans(
    encode: Callable[[Tensor], Encoded],
    spectra: Tensor,
    mask: Tensor,
    *,
    packed: bool = True,
    scan_rows: Tensor | None = None,
) -> Encoded:
    """Encode the real scans: vectors [B, S, E] and weights [B, S, ...], zero where padded.

    ``encode`` makes vectors [N, E] and named weights of scans [N, L]. Padded scans may hold
    anything, NaN too. Without ``packed``, and in ``torch.export``, they are encoded as zeros.
    ``scan_rows`` is the mask as an index, long [N] into the B * S scans: without it a packed batch
    on a GPU is waited for, since its scans have to be counted. Rows of B * S fill it up to a length
    that many batches share, so that compiled code is reused; their results are dropped.
    """
    scans, real = spectra.flatten(0, 1), mask.flatten()
    rows = None
    # An exported graph has no place for tensors whose size follows from the mask.
    if packed and not torch.compiler.is_exporting():
        # One index for the gather and for the scatters: finding it is the only synchronisation.
        rows = real.nonzero().squeeze(1) if scan_rows is None else scan_rows
        if len(rows) == len(scans):
            rows = None  # nothing is padded: nothing to gather
        else:
            # Rows that only fill up read the first real scan, which holds no NaN.
            scans = scans.index_select(0, torch.where(rows < len(scans), rows, rows[:1]))
    else:
        scans = scans.masked_fill(~real[:, None], 0.0)
    vectors, attention = encode(scans)
    put_back = {name: _put_back(weights, mask, rows) for name, weights in attention.items()}
    return _put_back(vectors, mask, rows), put_back


def _put_back(results: Tensor, mask: Tensor, rows: Tensor | None) -> Tensor:
    """[N, ...] -> [B, S, ...]; ``rows`` None means that there is a result for every scan."""
    if rows is None:
        real = mask.view(*mask.shape, *[1] * (results.dim() - 1))
        return results.unflatten(0, mask.shape) * real
    # One row more, for the results of rows that only fill up.
    whole = results.new_zeros(mask.numel() + 1, *results.shape[1:])
    return whole.index_copy(0, rows, results)[:-1].unflatten(0, mask.shape)


def mean_scan(spectra: Tensor, mask: Tensor) -> Tensor:
    """The mean of each sample's real scans, [B, L]; padded ones may hold anything."""
    real = spectra.masked_fill(~mask[..., None], 0.0)
    return real.sum(dim=1) / mask.sum(dim=1, keepdim=True)


class WhitenedComponents(nn.Module):
    """A scan's principal components of unit variance, [N, K], of the training set's mean scans.

    A gradient step on correlated points mostly follows the few directions in which they vary most;
    on whitened components it takes all directions alike. :meth:`fit` finds them before the
    training, at most a quarter as many as there are samples; the others are zero. Until then they
    are random directions.
    """

    rotation: Tensor
    origin: Tensor
    noise: Tensor

    def __init__(self, spec_len: int, components: int) -> None:
        super().__init__()
        self.register_buffer("rotation", torch.randn(components, spec_len) / math.sqrt(spec_len))
        self.register_buffer("origin", torch.zeros(components))
        self.register_buffer("noise", torch.zeros(()))

    @torch.no_grad()
    def fit(self, training: TrainingSet) -> None:
        """Find the components of the training set's mean scans."""
        # Here, since scikit-learn takes a second to import.
        from models.classical import whitening

        most = min(len(self.rotation), max(1, len(training.spectra) // SAMPLES_PER_COMPONENT))
        rotation, origin = whitening(training.spectra, most, training.seed)
        self.rotation.zero_()[: len(rotation)] = torch.from_numpy(rotation)
        self.origin.zero_()[: len(origin)] = torch.from_numpy(origin)
        self.noise.fill_(min(1.0, math.sqrt(NOISY_SAMPLES / len(training.spectra))))

    def forward(self, scans: Tensor) -> Tensor:
        """Components [N, K] of scans [N, L]."""
        # In half precision the sum over thousands of points is too coarse.
        with torch.autocast(scans.device.type, enabled=False):
            found = scans.float() @ self.rotation.T - self.origin
            return found + self.noise * torch.randn_like(found) if self.training else found


class WholeScan(nn.Module):
    """Features of all points of a scan together, [N, ``features``], each point with own weights.

    They are a hidden layer on the whitened components, products of pairs of its features, and a
    hidden layer on the points.
    """

    def __init__(self, spec_len: int, width: int, components: int, dropout: float) -> None:
        super().__init__()
        self.components = WhitenedComponents(spec_len, components)
        self.hidden = nn.Sequential(
            nn.Linear(components, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)
        )
        self.pairs = nn.Linear(width, 2 * PAIRS)
        self.points = nn.Linear(spec_len, math.ceil(width / 2))
        # An adaptive step moves each weight alike, and so the sum of many points by far. A small
        # factor on large weights keeps the values and slows the steps (Yang et al. 2022).
        self.slow = min(1.0, SLOW_POINTS / spec_len)
        with torch.no_grad():
            self.points.weight.div_(self.slow)
            self.points.bias.div_(self.slow)
        self.dropout = nn.Dropout(dropout)
        self.features = width + PAIRS + self.points.out_features

    def forward(self, scans: Tensor) -> Tensor:
        """The features of scans [N, L]."""
        hidden = self.hidden(self.components(scans))
        left, right = self.pairs(hidden).chunk(2, dim=-1)
        points = functional.gelu(self.slow * self.points(scans))
        return torch.cat([hidden, left * right, self.dropout(points)], dim=-1)


class ScanEncoder(nn.Module):
    """Base of encoders of scans: one vector of the tokens along the axis and of the whole scan.

    Attention pooling alone loses the position of a token on the axis, and peak positions are what a
    spectrum is about. So each position also sends ``position_features`` numbers into the vector.
    Weights that all positions share need long training to know single peaks: the features of
    :class:`WholeScan` do not.
    """

    def __init__(self, spec_len: int, packed: bool) -> None:
        super().__init__()
        self.spec_len = spec_len
        self.packed = packed

    def _add_readout(
        self,
        spec_emb: int,
        tokens: int,
        width: int,
        heads: int,
        features: int,
        components: int,
        dropout: float,
    ) -> None:
        self.pooling = AttentionPooling(width, heads)
        self.position_readout = nn.Linear(width, features)
        of_tokens = math.ceil(spec_emb / 4)
        self.vector_of_tokens = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(width + tokens * features, of_tokens),
            nn.LayerNorm(of_tokens),
            nn.GELU(),
            nn.Dropout(dropout),
        )
        self.whole_scan = WholeScan(self.spec_len, spec_emb, components, dropout)
        self.vector = nn.Linear(of_tokens + self.whole_scan.features, spec_emb)

    def _read_out(self, scans: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """One vector [N, E] of scans [N, L] and their tokens [N, T, W]; the pooling's weights."""
        pooled, weights = self.pooling(tokens)
        readout = self.position_readout(tokens).flatten(1)
        of_tokens = self.vector_of_tokens(torch.cat([pooled, readout], dim=-1))
        return self.vector(torch.cat([of_tokens, self.whole_scan(scans)], dim=-1)), weights

    def encode(self, scans: Tensor, return_attention: bool = False) -> Encoded:
        """Encode scans [N, L] that all are real: vectors [N, E] and the weights asked for."""
        raise NotImplementedError

    def forward(
        self,
        spectra: Tensor,
        mask: Tensor,
        return_attention: bool = False,
        scan_rows: Tensor | None = None,
    ) -> Encoded:
        """Vectors [B, S, E] and the weights of :meth:`encode` as [B, S, ...]; zero where padded."""
        check_spec_len(spectra, self.spec_len)
        return encode_real_scans(
            lambda scans: self.encode(scans, return_attention),
            spectra,
            mask,
            packed=self.packed,
            scan_rows=scan_rows,
        )


class MultiScalePatches(nn.Module):
    """Multi-scale convolution fusion, written as one matrix product per kernel width.

    For each scale a kernel of ``scale * patch_size`` points moves by one patch. No wide activation
    at full resolution is made. Scans are padded with zeros on the right to whole patches.
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
        mix = nn.Linear(width * len(self.kernels), width)
        self.fuse = nn.Sequential(nn.GELU(), TokenDropout(dropout), mix)

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
        return self.fuse(torch.cat(views, dim=-1))


class SpectraTFTEncoder(ScanEncoder):
    """One vector a scan: multi-scale patches, transformer, readouts; features of the whole scan.

    A token has ``patch_size`` points and ``d_model`` features; T = ceil(L / patch_size).
    ``patch_scales`` are the front end's kernel widths, in patches; ``components`` the principal
    components that the whole scan is seen by. With
    ``activation_checkpointing`` only the inputs of the front end and of each block are kept for the
    backward pass, and the rest is computed again: less memory, more time.
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
        components: int = COMPONENTS,
        dropout: float = 0.1,
        packed: bool = True,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__(spec_len, packed)
        check_sizes(
            spec_len=spec_len,
            spec_emb=spec_emb,
            patch_size=patch_size,
            d_model=d_model,
            position_features=position_features,
            components=components,
        )
        check_heads(d_model, num_heads)
        self.spec_emb = spec_emb
        self.patches = MultiScalePatches(
            spec_len, patch_size, d_model, patch_scales, dropout, activation_checkpointing
        )
        tokens = self.patches.num_patches
        # 0.02: the usual spread of learned positions (Devlin et al. 2019; Dosovitskiy et al. 2021).
        self.positions = nn.Parameter(torch.randn(tokens, d_model) * 0.02)
        self.token_dropout = TokenDropout(dropout)
        block = partial(TransformerBlock, activation_checkpointing=activation_checkpointing)
        self.blocks = nn.ModuleList(block(d_model, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(d_model)
        sizes = spec_emb, tokens, d_model, num_heads, position_features, components
        self._add_readout(*sizes, dropout)

    def encode(self, scans: Tensor, return_attention: bool = False) -> Encoded:
        """Vectors [N, E] of scans [N, L]; when asked, the weights of pooling and layers."""
        attention: dict[str, Tensor] = {}
        tokens = self.patches(scans)
        # Under autocast a sum with float32 parameters would make all that follows float32, too:
        # twice the bytes in every layer.
        tokens = self.token_dropout(tokens + self.positions.to(tokens.dtype))
        for layer, block in enumerate(self.blocks):
            tokens, weights = block(tokens, need_weights=return_attention)
            if weights is not None:
                attention[f"patch_attention_{layer}"] = weights
        vector, pooling_weights = self._read_out(scans, self.norm(tokens).to(tokens.dtype))
        if return_attention:
            attention["patch_pooling"] = pooling_weights
        return vector, attention


class ScanPooling(nn.Module):
    """From the vectors of a sample's scans to one vector a sample.

    Replicate scans are a set. Where their order matters (LC runs, time courses)
    ``scan_position='index'`` adds sinusoidal positions, for any number of scans.
    """

    def __init__(self, spec_emb: int, scan_position: str | None = None) -> None:
        super().__init__()
        if scan_position not in (None, "index"):
            raise ValueError(f"scan_position must be None or 'index', got {scan_position!r}")
        self.pooling = AttentionPooling(spec_emb)
        self.place = nn.Linear(spec_emb, spec_emb) if scan_position == "index" else None

    def _sinusoids(self, vectors: Tensor) -> Tensor:
        """Positions [S, E] (Vaswani et al. 2017, section 3.5)."""
        scans, width = vectors.shape[-2:]
        feature = torch.arange(width, device=vectors.device)
        rate = LONGEST_PERIOD ** (-(feature - feature % 2).float() / width)
        angle = torch.arange(scans, device=vectors.device)[:, None] * rate
        return torch.where(feature % 2 == 0, angle.sin(), angle.cos())

    def forward(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pool the scans [B, S, E]; returns [B, E], their weights [B, S], and the placed scans."""
        if self.place is not None:
            placed = vectors + self.place(self._sinusoids(vectors))
            vectors = placed * mask[..., None]
        pooled, weights = self.pooling(vectors, mask)
        return pooled, weights.squeeze(1), vectors


class SpectraClassifier(nn.Module):
    """Base of models of spectra alone: an encoder of scans, attention pooling and a linear head."""

    encoder_type: type[ScanEncoder]

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
        super().__init__()
        self.return_attention = return_attention
        build: Any = self.encoder_type
        self.spectra_encoder = build(spec_len, spec_emb, dropout=dropout, **encoder)
        self.scan_pooling = ScanPooling(spec_emb, scan_position)
        self.head = linear_head(spec_emb, num_classes, dropout)

    def forward(
        self,
        spectra: Tensor,
        mask: Tensor,
        tabular: Tensor | None = None,
        scan_rows: Tensor | None = None,
    ) -> Outputs:
        """Predict a batch by its spectra; covariates are ignored.

        Returns ``logits`` [B, C], ``embedding`` and ``spec_embedding`` [B, E], and
        ``attention_weights``: ``scan_pooling`` [B, S] and, with ``return_attention``, the encoder's
        as [B, S, ...].
        """
        scans, attention = self.spectra_encoder(spectra, mask, self.return_attention, scan_rows)
        embedding, scan_weights, _ = self.scan_pooling(scans, mask)
        return {
            "logits": self.head(embedding),
            "embedding": embedding,
            "spec_embedding": embedding,
            "attention_weights": {"scan_pooling": scan_weights, **attention},
        }

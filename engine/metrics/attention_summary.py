"""Attention weights of a model, averaged over many samples."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.eval_mode import eval_mode
from engine.metrics.sample_statistics import attention_weights, scan_shares
from engine.metrics.step_outputs import order_of

# Samples at once: the weights of every head take the square of the positions.
ROWS = 8
SWITCH = "return_attention"


@dataclass(frozen=True)
class ScanWeights:
    """Attention over each sample's real scans: its entropy in nats, and their number, [N] each."""

    entropy: Tensor
    scans: Tensor

    @property
    def effective(self) -> Tensor:
        """Effective number of scans, exp(entropy), [N] (Hill 1973, "Diversity and Evenness")."""
        return self.entropy.exp()


@dataclass(frozen=True)
class MeanWeights:
    """Weights averaged over samples, without padding and, if each scan has its own, without scans.

    ``axes`` names the dimensions of ``mean``: ``head``, ``scan``, ``covariate`` or ``position``;
    ``spread`` is the standard deviation over what was averaged, None if unknown.
    """

    mean: Tensor
    axes: tuple[str, ...]
    spread: Tensor | None = None


@dataclass(frozen=True)
class AttentionSummary:
    """Attention weights over many samples, by name: those with one per scan, and all others."""

    samples: int = 0
    over_scans: dict[str, ScanWeights] = field(default_factory=dict)
    means: dict[str, MeanWeights] = field(default_factory=dict)


@torch.no_grad()
def summarise_attention(
    model: nn.Module,
    loader: Iterable[Any],
    device: torch.device | str = "cpu",
    max_samples: int = 256,
) -> AttentionSummary:
    """Average a model's ``attention_weights`` over the first ``max_samples`` of the data set."""
    parts = _take(loader, max_samples)
    if not parts:
        return AttentionSummary()
    most = max(part[1].shape[1] for part in parts)
    parts = [
        (*_pad(spectra, mask, most), tabular)
        for whole in parts
        for spectra, mask, tabular in zip(*(tensor.split(ROWS) for tensor in whole), strict=True)
    ]
    sums: dict[str, Tensor] = {}  # of weights, their squares and their number
    entropies: dict[str, list[Tensor]] = {}
    with showing_attention(model):
        scan_axes = find_scan_axes(model, parts[0], device)
        for spectra, mask, tabular in parts:
            weights = _weights(model, spectra, mask, tabular, device)
            for name in weights.keys() & scan_axes.keys():
                tensor, own = weights[name].double().cpu(), scan_axes[name]
                if is_over_scans(tensor, own):
                    entropy = torch.special.entr(scan_shares(tensor, mask)).sum(dim=1)
                    entropies.setdefault(name, []).append(entropy)
                    continue
                real = torch.ones_like(tensor)
                for axis in own:
                    shape = [len(mask), *(1 for _ in tensor.shape[1:])]
                    shape[axis] = most
                    real = real * mask.reshape(shape)
                # Each scan's own weights [B, S, ...] are averaged over the scans; other dimensions
                # over scans are kept.
                over = (1, 2) if tensor.ndim > 2 and 1 in own else (1,)
                each = (tensor * real, tensor.square() * real, real)
                sums[name] = sums.get(name, 0) + torch.stack(each).sum(over)
    scans = torch.cat([mask.sum(dim=1) for _, mask, _ in parts])
    covariates = parts[0][2].shape[1]
    return AttentionSummary(
        len(scans),
        {n: ScanWeights(torch.cat(found), scans) for n, found in sorted(entropies.items())},
        {n: _moments(part, scan_axes[n], covariates) for n, part in sorted(sums.items())},
    )


def find_scan_axes(
    model: nn.Module, part: tuple[Tensor, Tensor, Tensor], device: torch.device | str
) -> dict[str, tuple[int, ...]]:
    """The dimensions of each of a model's weights, by name, that grow with the number of scans."""
    spectra, mask, tabular = part
    before = _weights(model, *part, device)
    if not before:
        return {}
    after = _weights(model, *_pad(spectra, mask, mask.shape[1] + 1), tabular, device)
    return {
        name: tuple(axis for axis, size in enumerate(w.shape) if after[name].shape[axis] > size)
        for name, w in before.items()
    }


def is_over_scans(weights: Tensor, scan_axes: tuple[int, ...]) -> bool:
    """Whether a tensor [B, ...] holds one weight per scan: [B, S]."""
    return weights.ndim == 2 and scan_axes == (1,)


def _take(loader: Iterable[Any], samples: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    order = order_of(loader)
    wanted = None if order is None else set(order[:samples])
    for batch in loader:
        chosen: Any = slice(samples)
        if wanted is not None:
            chosen = [row for row, name in enumerate(batch.sample_id) if name in wanted]
            if not chosen:
                continue
        parts.append((batch.spectra[chosen], batch.mask[chosen], batch.tabular[chosen]))
        samples -= len(parts[-1][1])
        if samples <= 0:
            break
    return parts


def _pad(spectra: Tensor, mask: Tensor, scans: int) -> tuple[Tensor, Tensor]:
    missing = scans - mask.shape[1]
    return functional.pad(spectra, (0, 0, 0, missing)), functional.pad(mask, (0, missing)).cpu()


def _weights(
    model: nn.Module, spectra: Tensor, mask: Tensor, tabular: Tensor, device: torch.device | str
) -> dict[str, Tensor]:
    return attention_weights(model(spectra.to(device), mask.to(device), tabular.to(device)))


def _moments(sums: Tensor, scan_axes: tuple[int, ...], covariates: int) -> MeanWeights:
    mean, squares = sums[:2] / sums[2].clamp(min=1)
    # In double precision; rounding may leave a variance of zero a little below it.
    spread = (squares - mean.square()).clamp(min=0).sqrt()
    return MeanWeights(mean, _name_axes(mean, scan_axes, covariates), spread)


def _name_axes(mean: Tensor, scan_axes: tuple[int, ...], covariates: int) -> tuple[str, ...]:
    # `mean` lacks the batch, and the scans where each scan has its own weights.
    gone = 2 if 1 in scan_axes else 1
    names = ["covariate" if size == covariates else "position" for size in mean.shape]
    if mean.ndim == 3:
        names[0] = "head"
    for axis in scan_axes:
        if axis >= gone:
            names[axis - gone] = "scan"
    if mean.ndim == 2 and gone == 2:
        names[0] = "head"
    return tuple(names)


@contextmanager
def showing_attention(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with all attention returned."""
    switches = [module for module in model.modules() if hasattr(module, SWITCH)]
    before = [getattr(module, SWITCH) for module in switches]
    try:
        for module in switches:
            setattr(module, SWITCH, True)
        with eval_mode(model):
            yield
    finally:
        for module, was in zip(switches, before, strict=True):
            setattr(module, SWITCH, was)

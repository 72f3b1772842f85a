"""Statistics of each sample beside its logits: agreement of modalities, attention over scans.

Each is a few operations on the device, without waiting for it, and gives one number per sample; the
value of an epoch is their mean.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.metrics.tasks import UNDEFINED

# The name of unnamed weights.
UNNAMED = "attention"
# From a model's outputs and the batch to [B]; None without the outputs that it needs.
SampleStatistic = Callable[[Mapping[str, Any], Any], Tensor | None]


def attention_weights(outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """A model's attention weights by name (:mod:`engine.model_validation`), each [B, ...].

    A single tensor is named ``attention``, those of a list ``attention_1``, and so on.
    """
    found = outputs.get("attention_weights")
    if isinstance(found, Tensor):
        found = {UNNAMED: found}
    elif isinstance(found, (list, tuple)):
        found = {f"{UNNAMED}_{number}": each for number, each in enumerate(found, start=1)}
    return {name: each for name, each in (found or {}).items() if isinstance(each, Tensor)}


def scan_shares(weights: Tensor, mask: Tensor) -> Tensor:
    """Weights [B, S] scaled to sum to 1 over each sample's real scans, 0 elsewhere."""
    share = weights.double() * mask
    return share / share.sum(dim=1, keepdim=True)


def modality_consistency(outputs: Mapping[str, Any], batch: Any) -> Tensor | None:
    """Similarity of the probabilities by ``aux_logits_spec`` and by ``aux_logits_tab``, [B].

    1 minus their Jensen-Shannon divergence in bits (Lin 1991): 1 if equal, 0 if each is certain of
    another class. Of labels the mean over them.
    """
    heads = _probabilities_of_heads(outputs, batch)
    if heads is None:
        return None
    spec, tab = heads
    entropy = torch.special.entr
    shared = entropy((spec + tab) / 2) - (entropy(spec) + entropy(tab)) / 2
    divergence = shared.sum(dim=2) / math.log(2)
    return 1 - divergence.clamp(0, 1).mean(dim=1)  # except for rounding it is in there


def modality_agreement(outputs: Mapping[str, Any], batch: Any) -> Tensor | None:
    """Whether both heads predict the same class, 1 or 0, [B]; the share of labels, of labels."""
    heads = _probabilities_of_heads(outputs, batch)
    if heads is None:
        return None
    spec, tab = heads
    same = (spec.argmax(dim=2) == tab.argmax(dim=2)).float().mean(dim=1)
    # NaN gives no decision.
    return same.masked_fill((spec + tab).isnan().any(dim=2).any(dim=1), UNDEFINED)


def attention_entropy(outputs: Mapping[str, Any], batch: Any) -> Tensor | None:
    """Entropy of the weights of a sample's real scans, in nats, [B]; 0 if only one counts.

    The weights are ``attention_weights["scan_pooling"]``, else the first of the mask's shape [B, S]
    whose name holds ``pool`` and not ``tab``, or a single unnamed tensor [B, S].
    """
    weights = _weights_of_scans(outputs, batch.mask)
    if weights is None:
        return None
    return torch.special.entr(scan_shares(weights, batch.mask)).sum(dim=1)


def effective_scans(outputs: Mapping[str, Any], batch: Any) -> Tensor | None:
    """The effective number of scans, exp(entropy), [B] (Hill 1973)."""
    entropy = attention_entropy(outputs, batch)
    return None if entropy is None else entropy.exp()


SAMPLE_STATISTICS: dict[str, SampleStatistic] = {
    # Of classes and labels alone.
    "modality_consistency": modality_consistency,
    "modality_agreement": modality_agreement,
    # Of any task.
    "attention_entropy": attention_entropy,
    "effective_scans": effective_scans,
}


def _probabilities_of_heads(outputs: Mapping[str, Any], batch: Any) -> tuple[Tensor, Tensor] | None:
    """Of the spectra's and of the covariates' head: classes [B, 1, C], or labels [B, T, 2]."""
    spec, tab = outputs.get("aux_logits_spec"), outputs.get("aux_logits_tab")
    if spec is None or tab is None:
        return None
    logits = torch.stack([spec, tab]).float()
    if batch.target.ndim == 2:
        # Each label is a binary decision.
        logits = torch.stack([logits, torch.zeros_like(logits)], dim=-1)
    else:
        logits = logits[:, :, None]
    spec, tab = logits.softmax(dim=-1)
    return spec, tab


def _weights_of_scans(outputs: Mapping[str, Any], mask: Tensor) -> Tensor | None:
    weights = attention_weights(outputs)
    others = (name for name in weights if "pool" in name and "tab" not in name)
    for name in ("scan_pooling", *others, UNNAMED):
        found = weights.get(name)
        if found is not None and found.shape == mask.shape:
            return found
    return None

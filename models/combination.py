"""Networks within networks: several members, and what is fitted before the training."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from models.checks import Outputs

# Outputs of parts of a model in training, each of which has the loss for itself.
PARTS = "parts"
# Of a training set of which each member may leave one out.
FOLDS = 5
# A training sample's logits by the members that left it out.
LEFT_OUT = "left_out_logits"
JOINED = ("embedding", "spec_embedding", "tab_embedding", "gated_spec")


class TrainingSet(NamedTuple):
    """What a model may be fitted to before it is trained, of N samples.

    ``spectra`` are mean transformed scans, float32 [N, L], ``covariates`` encoded, float32 [N, D];
    ``targets`` classes [N], labels [N, T] or standardised values [N, T]. Groups stay together.
    ``fold`` [N] is given where predictions of each sample by models without its fold are wanted; it
    is -1 for a sample that no model leaves out.
    """

    spectra: np.ndarray
    covariates: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    task: str
    seed: int
    fold: np.ndarray | None = None


@runtime_checkable
class Fitted(Protocol):
    """A model, or a part of one, with buffers that are fitted to the training set."""

    def fit(self, training: TrainingSet) -> np.ndarray | None:
        """Fit; returns each sample's logits by models that were not fitted to it, float32 [N, C].

        None where there are no such models, or nobody asks for them.
        """


class Weighted(nn.Module):
    """Base of models whose logits are a weighted sum of their members'.

    Outputs in evaluation have ``member_logits`` [B, M, C], given the batch's ``fold`` of models
    that left the samples out. ``member_weights`` are [M].
    """

    member_names: Sequence[str]
    member_weights: Tensor

    @property
    def leaves_out(self) -> bool:
        """Whether some of the networks are trained without each fold."""
        raise NotImplementedError

    def choose_weights(self, logits: np.ndarray, targets: np.ndarray, task: str) -> None:
        """Set the weights by logits [N, M, C] and targets of samples that none was trained on."""
        raise NotImplementedError


class ClippedScale(nn.Module):
    """``(x - center) / spread`` of columns [..., F], limited to ``bound`` on both sides.

    Until :meth:`take` it changes nothing.
    """

    center: Tensor
    spread: Tensor
    bound: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.register_buffer("bound", torch.tensor(torch.inf))

    @torch.no_grad()
    def take(self, center: np.ndarray, spread: np.ndarray, bound: float) -> None:
        """Take the centre and spread of each column, [F], and the bound."""
        self.center.copy_(torch.from_numpy(center))
        self.spread.copy_(torch.from_numpy(spread))
        self.bound.fill_(bound)

    def forward(self, x: Tensor) -> Tensor:
        """Scaled columns [..., F]."""
        scaled = (x - self.center) / self.spread
        return torch.minimum(torch.maximum(scaled, -self.bound), self.bound)


def fit_before_training(model: nn.Module, training: TrainingSet) -> np.ndarray | None:
    """Fit all parts of a model that are; returns their offset, [N, C] or of several [N, M, C]."""
    fits = (part.fit(training) for part in model.modules() if isinstance(part, Fitted))
    offsets = [offset for offset in fits if offset is not None]
    if len(offsets) < 2:
        return offsets[0] if offsets else None
    return np.stack(offsets, axis=1)


def is_fitted_before(model: nn.Module) -> bool:
    """Whether some part of a model is fitted before the training."""
    return any(isinstance(part, Fitted) for part in model.modules())


def taking_rows(networks: Iterable[nn.Module]) -> list[bool]:
    """Whether each network takes ``scan_rows``; ask once, as torch.compile cannot follow."""
    return ["scan_rows" in inspect.signature(type(n).forward).parameters for n in networks]


def call_network(
    network: nn.Module,
    spectra: Tensor,
    mask: Tensor,
    tabular: Tensor,
    scan_rows: Tensor | None,
    takes_rows: bool,
    fold: Tensor | None = None,
) -> Outputs:
    """The outputs of a network, with ``scan_rows`` if it takes them (:func:`taking_rows`).

    ``fold`` is for :class:`Members`.
    """
    further = {"scan_rows": scan_rows} if takes_rows else {}
    if fold is not None and isinstance(network, Members):
        further["fold"] = fold
    outputs: Outputs = network(spectra, mask, tabular, **further)
    return outputs


class Members(nn.Module):
    """Several networks of one kind, whose logits are averaged.

    In training each has the loss for itself. Embeddings are joined, attention weights averaged.
    Given each sample's ``fold``, member k is trained without fold k modulo ``FOLDS``.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        # No ModuleList: one is a stack of layers to a layer-wise learning rate.
        for number, network in enumerate(networks):
            self.add_module(str(number), network)
        self._takes_rows = taking_rows(networks)

    @property
    def networks(self) -> list[nn.Module]:
        """The members."""
        return list(self.children())

    def forward(
        self,
        spectra: Tensor,
        mask: Tensor,
        tabular: Tensor,
        scan_rows: Tensor | None = None,
        fold: Tensor | None = None,
    ) -> Outputs:
        """The members' outputs together, and in training each one's as ``parts``.

        In evaluation, given ``fold``, ``left_out_logits`` [B, C] are the mean of those members that
        were trained without the sample; of all where none was.
        """
        each = [
            call_network(network, spectra, mask, tabular, scan_rows, takes)
            for network, takes in zip(self.networks, self._takes_rows, strict=True)
        ]
        outputs = _together(each)
        if self.training:
            outputs[PARTS] = [
                part if fold is None else _without_gradient(part, fold == number % FOLDS)
                for number, own in enumerate(each)
                for part in own.get(PARTS, [own])
            ]
        elif fold is not None:
            members = torch.arange(len(each), device=fold.device) % FOLDS
            left_out = (fold[:, None] == members).to(outputs["logits"].dtype)
            left_out = torch.where(left_out.any(dim=1, keepdim=True), left_out, 1.0)
            shares = left_out / left_out.sum(dim=1, keepdim=True)
            logits = torch.stack([own["logits"] for own in each], dim=1)
            outputs[LEFT_OUT] = (shares[..., None] * logits).sum(dim=1)
        return outputs


def leave_out(networks: Iterable[nn.Module]) -> bool:
    """Whether each network has members enough to leave each fold out."""
    return all(isinstance(n, Members) and len(n.networks) >= FOLDS for n in networks)


def _without_gradient(outputs: Mapping[str, Any], rows: Tensor) -> Outputs:
    """The same outputs, by which nothing is learned from some samples, bool [B].

    Their shapes do not change, so that CUDA graphs can hold them, and any loss takes them.
    """
    found: Outputs = {}
    for name, value in outputs.items():
        if isinstance(value, Mapping):
            found[name] = _without_gradient(value, rows)
        elif isinstance(value, Tensor) and value.shape[:1] == rows.shape:
            chosen = rows.view(-1, *[1] * (value.dim() - 1))
            found[name] = torch.where(chosen, value.detach(), value)
        else:
            found[name] = value
    return found


def _together(each: Sequence[Mapping[str, Any]]) -> Outputs:
    """Averages by name; embeddings side by side."""
    found: Outputs = {}
    for name, first in each[0].items():
        values = [own[name] for own in each]
        if isinstance(first, Mapping):
            found[name] = _together(values)
        elif name in JOINED:
            found[name] = torch.cat(values, dim=-1)
        elif isinstance(first, Tensor):
            found[name] = torch.stack(values).mean(dim=0)
    return found

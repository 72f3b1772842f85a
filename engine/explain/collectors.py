"""Outputs of a model that are kept while it is evaluated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from engine.explain.output_collector import OutputCollector
from engine.metrics import attention_weights, find_scan_axes, is_over_scans, scan_shares
from engine.model_call import SCAN_ROWS, call_model

HEADS = ("aux_logits_spec", "aux_logits_tab")


class AuxiliaryHeads(OutputCollector):
    """Keeps the logits of both modalities' auxiliary heads, in the loader's order.

    Example::

        heads = AuxiliaryHeads()
        heads.attach(evaluator)
        evaluator.evaluate(loader)
        heads.logits
    """

    def take(self, evaluator: Any) -> tuple[Tensor, ...] | None:
        """One step's logits of the spectra and of the covariates, [B, C] each."""
        heads = [evaluator.state.outputs.get(head) for head in HEADS]
        if any(head is None for head in heads):
            return None
        return tuple(head.detach() for head in heads)

    @property
    def logits(self) -> tuple[Tensor, Tensor] | None:
        """Of the spectra and of the covariates, [N, C] each, on the CPU.

        None of a model without both heads.
        """
        if not self._kept:
            return None
        spectra, tabular = (
            torch.cat(parts).float().cpu() for parts in zip(*self._kept, strict=True)
        )
        return spectra, tabular


# The first that a model gives.
CHOICES = (("embedding",), ("spec_embedding", "tab_embedding"), ("logits",))


class Embeddings(OutputCollector):
    """Keeps each sample's ``embedding`` of an evaluation, in the loader's order.

    Of a model that gives none, its ``spec_embedding`` and ``tab_embedding`` take its place, one
    behind the other where it gives both; else its ``logits``.

    Attributes:
        source: ``embedding``, ``spec_embedding and tab_embedding`` or one of these, or ``logits``.

    Example::

        embeddings = Embeddings()
        embeddings.attach(evaluator)
        evaluator.evaluate(loader)
        embeddings.vectors
    """

    def __init__(self) -> None:
        super().__init__()
        self.source = "embedding"

    def take(self, evaluator: Any) -> tuple[Tensor, ...]:
        """One step's vectors, [B, E]."""
        outputs = evaluator.state.outputs
        given = ([name for name in names if outputs.get(name) is not None] for names in CHOICES)
        chosen = next(names for names in given if names)
        self.source = " and ".join(chosen)
        return (torch.cat([outputs[name].detach().float() for name in chosen], dim=1),)

    @property
    def vectors(self) -> Tensor:
        """[N, E], on the CPU."""
        return torch.cat([vectors for (vectors,) in self._kept]).cpu()


BEFORE, AFTER = "spec_embedding", "gated_spec"


class Gates(OutputCollector):
    """Keeps how far each sample's spectra vector is moved by the gate and by the covariates.

    Of a model that returns ``spec_embedding`` and ``gated_spec``, both [B, E]. A gate rarely works
    alone: a residual and a norm stand behind it and move every sample's vector alike, whatever its
    covariates are. So each step is computed a second time with covariates of zeros (the mean,
    where they are standardised; what attributions start from, too), and what that changes is the
    covariates' doing.

    Attach it to the one evaluation that it is wanted of: of a model with a gate that takes twice
    as long.

    Example::

        gates = Gates()
        gates.attach(evaluator)
        evaluator.evaluate(loader)
        gates.movement
    """

    @torch.no_grad()
    def take(self, evaluator: Any) -> tuple[Tensor, ...] | None:
        """One step's distances: by the covariates, and from before the gate to behind it, [B]."""
        batch, outputs = evaluator.state.batch, evaluator.state.outputs
        if outputs.get(BEFORE) is None or outputs.get(AFTER) is None:
            return None
        without = SimpleNamespace(
            spectra=batch.spectra,
            mask=batch.mask,
            tabular=torch.zeros_like(batch.tabular),
            scan_rows=getattr(batch, SCAN_ROWS, None),
        )
        with evaluator.precision.autocast():
            unmoved = call_model(evaluator.model, without)[AFTER]
        return (
            _distance(outputs[AFTER], unmoved),
            _distance(outputs[AFTER], outputs[BEFORE]),
        )

    @property
    def movement(self) -> Tensor | None:
        """||gated - gated without covariates|| / ||gated without covariates||, [N], on the CPU.

        None of a model without a gate.
        """
        return self._column(0)

    @property
    def change(self) -> Tensor | None:
        """||gated - before the gate|| / ||before the gate||, [N], on the CPU.

        By all that stands between the two, such as a norm; None of a model without a gate.
        """
        return self._column(1)

    def _column(self, number: int) -> Tensor | None:
        parts = [step[number] for step in self._kept]
        return torch.cat(parts).cpu() if parts else None


def _distance(there: Tensor, here: Tensor) -> Tensor:
    """Relative to the length of what it is a distance from, [B]."""
    here = here.detach().float()
    length = here.norm(dim=1).clamp(min=torch.finfo(here.dtype).tiny)
    return (there.detach().float() - here).norm(dim=1) / length


# Where several weights are over scans: the one by which scans become a sample's vector.
FIRST_CHOICE = "scan_pooling"


class ScanAttention(OutputCollector):
    """Keeps one weight a scan, where the model returns attention weights [B, S].

    Which of them is over the scans is found out as in
    :func:`engine.metrics.summarise_attention`.

    Attributes:
        name: What the model calls the weights; None before an evaluation, and of a model that
            has none.

    Example::

        attention = ScanAttention()
        attention.attach(evaluator)
        evaluator.evaluate(loader)
        attention.weights
    """

    def __init__(self) -> None:
        super().__init__()
        self.name: str | None = None
        self._looked = False

    def reset(self) -> None:
        """Forget what an earlier evaluation left; the model may be another one now."""
        super().reset()
        self.name, self._looked = None, False

    def take(self, evaluator: Any) -> tuple[Tensor, ...] | None:
        """One step's weights and which scans are real, [B, S] each."""
        batch = evaluator.state.batch
        if not self._looked:
            self._looked = True
            self.name = self._find_name(evaluator)
        if self.name is None:
            return None
        return attention_weights(evaluator.state.outputs)[self.name].detach(), batch.mask

    @staticmethod
    @torch.no_grad()
    def _find_name(evaluator: Any) -> str | None:
        batch, found = evaluator.state.batch, attention_weights(evaluator.state.outputs)
        one = (batch.spectra[:1], batch.mask[:1], batch.tabular[:1])
        axes = find_scan_axes(evaluator.model, one, evaluator.device) if found else {}
        names = [name for name, own in axes.items() if is_over_scans(found[name], own)]
        return FIRST_CHOICE if FIRST_CHOICE in names else min(names, default=None)

    @property
    def weights(self) -> list[Tensor] | None:
        """Of each sample's real scans, adding up to 1, N of [S_i], on the CPU.

        None of a model that gives scans no weights.
        """
        if not self._kept:
            return None
        return [
            share[real]
            for weights, mask in self._kept
            for share, real in zip(scan_shares(weights.cpu(), mask.cpu()), mask.cpu(), strict=True)
        ]

"""How much each scan of a sample counts, kept while a model is measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.explain.output_collector import OutputCollector
from engine.metrics import attention_weights, find_scan_axes, is_over_scans, scan_shares

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

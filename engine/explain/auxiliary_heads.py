"""What each modality says by itself, kept while a model is measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.explain.output_collector import OutputCollector

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

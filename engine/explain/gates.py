"""How far covariates move what a model makes of the spectra, kept while it is measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from engine.explain.output_collector import OutputCollector
from engine.model_call import SCAN_ROWS, call_model

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

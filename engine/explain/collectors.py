"""Outputs of a model that are kept while it is evaluated.

A collector is attached to an evaluator; after its ``evaluate`` the outputs are attributes.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from engine.metrics import (
    OutputCollector,
    attention_weights,
    find_scan_axes,
    is_over_scans,
    scan_shares,
)
from engine.model_call import call_model

HEADS = ("aux_logits_spec", "aux_logits_tab")
# The first of these that a model returns are its embedding.
CHOICES = (("embedding",), ("spec_embedding", "tab_embedding"), ("logits",))
BEFORE, AFTER = "spec_embedding", "gated_spec"
# Where several weights are over scans: the one that pools the scans into a sample's vector.
FIRST_CHOICE = "scan_pooling"


class AuxiliaryHeads(OutputCollector):
    """Keeps the logits of both modalities' auxiliary heads, in the loader's order."""

    def take(self, evaluator: Any) -> dict[str, Any] | None:
        """One step's logits of the spectra and of the covariates, [B, C] each."""
        heads = {head: evaluator.state.outputs.get(head) for head in HEADS}
        if any(logits is None for logits in heads.values()):
            return None
        return {head: logits.detach() for head, logits in heads.items()}

    @property
    def logits(self) -> tuple[Tensor, Tensor] | None:
        """Of the spectra and of the covariates, [N, C] each, on the CPU; None without heads."""
        spectra, tabular = (self.column(head) for head in HEADS)
        return None if spectra is None or tabular is None else (spectra.float(), tabular.float())


class MemberLogits(OutputCollector):
    """Keeps the logits of each member of a model that has some, in the loader's order."""

    def take(self, evaluator: Any) -> dict[str, Any]:
        """One step's logits, [B, M, C]."""
        return {"logits": evaluator.state.outputs["member_logits"].detach().float()}

    @property
    def logits(self) -> Tensor | None:
        """[N, M, C], on the CPU."""
        return self.column("logits")


class Embeddings(OutputCollector):
    """Keeps each sample's ``embedding``, in the loader's order.

    Without one, ``spec_embedding`` and ``tab_embedding`` are concatenated (or the one there is),
    else the ``logits`` are taken; ``source`` names the outputs taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.source = "embedding"

    def take(self, evaluator: Any) -> dict[str, Any]:
        """One step's vectors, [B, E]."""
        outputs = evaluator.state.outputs
        given = ([name for name in names if outputs.get(name) is not None] for names in CHOICES)
        chosen = next(names for names in given if names)
        self.source = " and ".join(chosen)
        return {"vectors": torch.cat([outputs[name].detach().float() for name in chosen], dim=1)}

    @property
    def vectors(self) -> Tensor:
        """[N, E], on the CPU."""
        return torch.cat([step["vectors"] for step in self._kept]).cpu()


class Gates(OutputCollector):
    """Keeps how far the gate and the covariates move each sample's spectra vector.

    Of ``spec_embedding`` and ``gated_spec``. Residuals and norms move all vectors alike, so each
    step is computed again with covariates of zero (the mean of standardised ones).
    """

    @torch.no_grad()
    def take(self, evaluator: Any) -> dict[str, Any] | None:
        """One step's relative distances, [B] each."""
        batch, outputs = evaluator.state.batch, evaluator.state.outputs
        if outputs.get(BEFORE) is None or outputs.get(AFTER) is None:
            return None
        without = SimpleNamespace(
            spectra=batch.spectra,
            mask=batch.mask,
            tabular=torch.zeros_like(batch.tabular),
            scan_rows=getattr(batch, "scan_rows", None),
        )
        with evaluator.precision.autocast():
            unmoved = call_model(evaluator.model, without)[AFTER]
        gated = outputs[AFTER]
        return {"movement": _distance(gated, unmoved), "change": _distance(gated, outputs[BEFORE])}

    @property
    def movement(self) -> Tensor | None:
        """||gated - unmoved|| / ||unmoved||, unmoved being without covariates, [N]; or None."""
        return self.column("movement")

    @property
    def change(self) -> Tensor | None:
        """||gated - before the gate|| / ||before the gate||, [N]; None without a gate."""
        return self.column("change")


class ScanAttention(OutputCollector):
    """Keeps one weight per scan, if the model returns attention weights [B, S], called ``name``."""

    def __init__(self) -> None:
        super().__init__()
        self.name: str | None = None
        self._looked = False

    def reset(self) -> None:
        """Forget the steps so far; the model may be another one now."""
        super().reset()
        self.name, self._looked = None, False

    def take(self, evaluator: Any) -> dict[str, Any] | None:
        """One step's weights and mask, [B, S] each."""
        batch = evaluator.state.batch
        if not self._looked:
            self._looked = True
            self.name = self._find_name(evaluator)
        if self.name is None:
            return None
        weights = attention_weights(evaluator.state.outputs)[self.name].detach()
        return {"weights": weights, "mask": batch.mask}

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
        """Of each sample's real scans, adding up to 1, N of [S_i], on the CPU; None without."""
        if not self._kept:
            return None
        found: list[Tensor] = []
        for step in self._kept:
            mask = step["mask"].cpu()
            shares = scan_shares(step["weights"].cpu(), mask)
            found += shares[mask].split(mask.sum(dim=1).tolist())
        return found


def _distance(there: Tensor, here: Tensor) -> Tensor:
    """Relative to the length of ``here``, [B]."""
    here = here.detach().float()
    length = here.norm(dim=1).clamp(min=torch.finfo(here.dtype).tiny)
    return (there.detach().float() - here).norm(dim=1) / length

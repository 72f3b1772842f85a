"""Losses that compare the samples of a batch with each other."""

import torch
from torch import Tensor
from torch.nn import functional

from datasets.errors import UsageError
from datasets.specs import require_range
from engine.losses.inputs import OneTerm, Outputs, find_output, has_output
from models.tft_loss import info_nce

# The first pair of equal width is compared.
PAIRS = (("spec_projection", "tab_projection"), ("spec_embedding", "tab_embedding"))


class SupervisedContrastive(OneTerm):
    """Supervised contrastive loss of ``embedding`` [B, E] (Khosla et al. 2020, L_out, one view).

    For each sample with others of its class in the batch, the mean over those of ``-log softmax``
    of the cosine similarities, divided by ``temperature``, to all other samples; averaged over such
    samples, 0 if there are none.
    """

    reads = "embedding"

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        require_range("supcon.temperature", temperature, 0, float("inf"), open_low=True)
        self.temperature = temperature

    def _term(self, outputs: Outputs, targets: Tensor) -> Tensor:
        if targets.is_floating_point() or targets.ndim != 1:
            raise UsageError("supcon needs class numbers [B]: it compares samples of one class")
        embedding = find_output(outputs, self.reads)
        # Half precision is too coarse for similarities divided by a temperature.
        with torch.autocast(targets.device.type, enabled=False):
            unit = functional.normalize(embedding.float(), dim=-1)
            similarity = unit @ unit.T / self.temperature  # [B, B]
            itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
            others = similarity.masked_fill(itself, torch.finfo(similarity.dtype).min)
            log_share = similarity - others.logsumexp(dim=1, keepdim=True)
            same = (targets[:, None] == targets[None, :]) & ~itself
            partners = same.sum(dim=1)
            of_sample = -log_share.where(same, 0).sum(dim=1) / partners.clamp_min(1)
            # Without waiting for the device, also if no sample has a partner.
            return of_sample.sum() / (partners > 0).sum().clamp_min(1)


class ModalityContrastive(OneTerm):
    """InfoNCE between a sample's spectra and its covariates (van den Oord et al. 2018).

    Compares ``spec_projection`` with ``tab_projection`` [B, P], or else, without
    ``projections_only``, ``spec_embedding`` with ``tab_embedding`` if they have the same width.
    """

    reads = None

    def __init__(self, temperature: float = 0.1, projections_only: bool = False) -> None:
        super().__init__()
        require_range("info_nce.temperature", temperature, 0, float("inf"), open_low=True)
        self.temperature = temperature
        self.pairs = PAIRS[:1] if projections_only else PAIRS

    def can_read(self, outputs: Outputs) -> bool:
        """Whether the outputs have a pair to compare."""
        return self._find_pair(outputs) is not None

    def _term(self, outputs: Outputs, targets: Tensor) -> Tensor:
        pair = self._find_pair(outputs)
        if pair is None:
            found = [name for names in self.pairs for name in names if has_output(outputs, name)]
            widths = ", ".join(f"{name} {list(outputs[name].shape)}" for name in found)
            needed = ", or ".join(" and ".join(names) for names in self.pairs)
            missing = f"info_nce needs of the model {needed}, of one width"
            raise UsageError(f"{missing}; it returns {widths or 'none of them'}")
        return info_nce(*pair, self.temperature)

    def _find_pair(self, outputs: Outputs) -> tuple[Tensor, Tensor] | None:
        for spec, tab in self.pairs:
            if has_output(outputs, spec) and has_output(outputs, tab):
                pair = find_output(outputs, spec), find_output(outputs, tab)
                if pair[0].shape == pair[1].shape:
                    return pair
        return None

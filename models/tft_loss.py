"""Cross-entropy with class weights, InfoNCE, and the loss of the multimodal transformer."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# A batch whose classes all have weight 0 gives 0, not 0 / 0.
SMALLEST = float(torch.finfo(torch.float32).tiny)


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Weighted mean of the cross-entropies, in fp32: sum(w loss) / sum(w), as torch has it.

    ``targets`` are classes, long [B], or class probabilities, float [B, C], whose mean is divided
    by B whatever the weights [C] are.
    """
    loss = partial(
        functional.cross_entropy,
        logits.float(),
        targets,
        class_weights,
        label_smoothing=label_smoothing,
    )
    if class_weights is None or not weighs(class_weights, targets):
        return loss()
    return loss(reduction="sum") / weight_sum(targets, class_weights).clamp_min(SMALLEST)


def weighs(class_weights: Tensor | None, targets: Tensor) -> bool:
    """Whether the mean is divided by the samples' weights, not by their number."""
    return class_weights is not None and not targets.is_floating_point()


def weight_sum(targets: Tensor, class_weights: Tensor) -> Tensor:
    """Sum of the class weights [C] of the samples' classes, long [B]; a scalar."""
    return class_weights[targets].sum()


def info_nce(
    first: Tensor, second: Tensor, temperature: float, paired: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE: rows i of both tensors [B, P] belong together (Radford et al. 2021).

    Each row is compared with the others of its batch. Only rows where ``paired``, bool [B], is True
    are positives. The mean of both directions over these is zero for a batch of one, or no pair.
    """
    # Autocast would multiply in half precision, too coarse for a temperature.
    with torch.autocast(first.device.type, enabled=False):
        first = functional.normalize(first.float(), dim=-1)
        second = functional.normalize(second.float(), dim=-1)
        similarity = first @ second.T / temperature  # [B, B]
        partner = torch.arange(len(first), device=first.device)
        if paired is None:
            forth = functional.cross_entropy(similarity, partner)
            return (forth + functional.cross_entropy(similarity.T, partner)) / 2
        forth = functional.cross_entropy(similarity, partner, reduction="none")
        back = functional.cross_entropy(similarity.T, partner, reduction="none")
        # Without reading from the device, also where no row is paired.
        return ((forth + back) / 2 * paired).sum() / paired.sum().clamp_min(1)


class TFTLoss(nn.Module):
    """Main and auxiliary cross-entropies, and spectra against covariates by InfoNCE.

    ``total = main + aux_spec_weight * aux_spec + aux_tab_weight * aux_tab + contrastive_weight *
    contrastive``. A term whose outputs the model does not give is zero, so the loss serves models
    of one modality too. ``class_weights`` are for all three cross-entropies.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        aux_spec_weight: float = 0.3,
        aux_tab_weight: float = 0.3,
        contrastive_weight: float = 0.02,
        temperature: float = 0.1,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be 0 to 1, got {label_smoothing}")
        for name, weight in (
            ("aux_spec_weight", aux_spec_weight),
            ("aux_tab_weight", aux_tab_weight),
            ("contrastive_weight", contrastive_weight),
        ):
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name} must be 0 or above and finite, got {weight}")
        self.aux_spec_weight = aux_spec_weight
        self.aux_tab_weight = aux_tab_weight
        self.contrastive_weight = contrastive_weight
        self.temperature = temperature
        self.label_smoothing = label_smoothing
        weights = None
        if class_weights is not None:
            weights = torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights)
        self.weighted = weights is not None  # the means are divided by sums of class weights

    def denominators(
        self, targets: Tensor, aux: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What each term's mean is divided by where that is not the number of samples."""
        aux, weights = aux or {}, self.class_weights
        found: dict[str, Tensor] = {}
        if weights is None:
            return found
        if weighs(weights, targets):
            main = weight_sum(targets, weights)
            found.update(total_loss=main, main_loss=main)
        for name, key in (("aux_spec_loss", "spec"), ("aux_tab_loss", "tab")):
            if key not in aux:
                found.update({name: found["main_loss"]} if found else {})
            elif weighs(weights, aux[key]):
                found[name] = weight_sum(aux[key], weights)
        return found

    def total(self, terms: Mapping[str, Any]) -> Any:
        """The weighted sum of the terms: tensors of one shape, or numbers."""
        return (
            terms["main_loss"]
            + self.aux_spec_weight * terms["aux_spec_loss"]
            + self.aux_tab_weight * terms["aux_tab_loss"]
            + self.contrastive_weight * terms["contrastive_loss"]
        )

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(logits, targets, self.class_weights, self.label_smoothing)

    def forward(
        self,
        outputs: Mapping[str, Tensor],
        targets: Tensor,
        aux: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Weigh and add the terms; a single logit, whose cross-entropy is zero, is a ValueError.

        ``aux`` are targets of the auxiliary heads, where they differ from the main ones: ``spec``,
        ``tab``. Returns ``total_loss``, and before weighing ``main_loss``, ``aux_spec_loss``,
        ``aux_tab_loss`` and ``contrastive_loss``.
        """
        if outputs["logits"].shape[-1] == 1:
            instead = "a value is regressed by a loss such as 'mse'"
            raise ValueError(f"TFTLoss needs logits of at least two classes, got one; {instead}")
        aux = aux or {}
        main = self._cross_entropy(outputs["logits"], targets)
        zero = main.new_zeros(())
        aux_spec = aux_tab = contrastive = zero
        if outputs.get("aux_logits_spec") is not None:
            aux_spec = self._cross_entropy(outputs["aux_logits_spec"], aux.get("spec", targets))
        if outputs.get("aux_logits_tab") is not None:
            aux_tab = self._cross_entropy(outputs["aux_logits_tab"], aux.get("tab", targets))
        spec, tab = outputs.get("spec_projection"), outputs.get("tab_projection")
        if spec is not None and tab is not None:
            contrastive = info_nce(spec, tab, self.temperature)
        terms = {
            "main_loss": main,
            "aux_spec_loss": aux_spec,
            "aux_tab_loss": aux_tab,
            "contrastive_loss": contrastive,
        }
        return {"total_loss": self.total(terms), **terms}

"""The loss that suits a task and a model, where the configuration names none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Models with a head on each modality, which only a loss with terms for them trains.
WITH_AUXILIARY_HEADS = frozenset({"tft", "attention", "late_fusion"})
PLAIN = {"multilabel": "bce", "regression": "mse"}
WEIGHTED = "weighted"
# As in the multimodal transformer's own loss, models.tft_loss.TFTLoss.
AUXILIARY_WEIGHT, CONTRASTIVE_WEIGHT = 0.3, 0.02
AUXILIARY_TERMS = {"aux_spec_loss": "aux_logits_spec", "aux_tab_loss": "aux_logits_tab"}


def default_loss(
    task: str, has_heads: bool, params: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Choose a loss, by its name and parameters.

    Of classes it is ``tft`` for the models with auxiliary heads, else ``cross_entropy``. Of labels
    it is ``bce``, of values ``mse``; with auxiliary heads the same on each of them too, and spectra
    against covariates where the model projects both, with the weights of ``tft``. ``params`` are of
    the main and auxiliary terms, or ``terms`` themselves.

    Example:
        >>> default_loss("regression", False, {})
        ('mse', {})
    """
    params = dict(params)
    if "terms" in params:
        return WEIGHTED, params
    if task not in PLAIN:
        return ("tft" if has_heads else "cross_entropy"), params
    plain = PLAIN[task]
    if not has_heads:
        return plain, params
    terms: dict[str, Any] = {"main_loss": {"name": plain, "params": params}}
    for name, output in AUXILIARY_TERMS.items():
        terms[name] = {
            "name": plain,
            "on": output,
            "weight": AUXILIARY_WEIGHT,
            "params": dict(params),
        }
    terms["contrastive_loss"] = {
        "name": "info_nce",
        "weight": CONTRASTIVE_WEIGHT,
        "optional": True,
        "params": {"projections_only": True},
    }
    return WEIGHTED, {"terms": terms}

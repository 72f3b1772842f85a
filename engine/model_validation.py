"""The outputs that a model may return, and a forward pass before training that checks them.

A model returns a mapping of names to outputs of B samples: ``logits``, float [B, C]; optional are
``aux_logits_spec`` and ``aux_logits_tab`` [B, C], of a head on one modality; ``embedding``,
``spec_embedding``, ``tab_embedding`` [B, E], each of its own width, and ``gated_spec``, as wide as
``spec_embedding``; ``spec_projection`` and ``tab_projection`` [B, P]; and ``attention_weights``, a
dict of names to tensors [B, ...], or one such tensor, or a list of them, which are named as in
:func:`engine.metrics.attention_weights`. A model whose weights have scans among their dimensions
must accept a batch with an additional padded scan. Other names are for the model's own loss.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from datasets.errors import UsageError, nearest, one_line
from engine.checkpointing import preserve_rng_state
from engine.eval_mode import eval_mode
from engine.metrics import SWITCH, find_scan_axes, showing_attention
from engine.model_call import call_loss, call_model, check_loss_arguments
from engine.protocols import Loss

HEADS = ("aux_logits_spec", "aux_logits_tab")
VECTORS = (
    "embedding",
    "spec_embedding",
    "tab_embedding",
    "gated_spec",
    "spec_projection",
    "tab_projection",
)
WEIGHTS = "attention_weights"


def validate_model(
    model: nn.Module, loss: Loss, batch: Any, num_classes: int, device: torch.device | str = "cpu"
) -> list[str]:
    """Run a model and its loss on one batch, without gradients and random draws.

    ``num_classes`` is the width of ``logits``. Returns the names of the loss's terms. UsageError
    names the output or term that is invalid.
    """
    name = f"model {type(model).__name__}"
    batch = batch.to(device)
    with eval_mode(model.to(device)), preserve_rng_state():
        outputs = call_model(model, batch)
        _check_outputs(name, outputs, (len(batch.sample_id), num_classes))
        with torch.no_grad():
            _check_attention(name, model, outputs, batch)
        aux = getattr(batch, "aux", None)
        check_loss_arguments(loss, aux)
        losses = call_loss(loss, outputs, batch.target, aux)
    if not isinstance(losses, Mapping) or "total_loss" not in losses:
        found = ", ".join(losses) if isinstance(losses, Mapping) else type(losses).__name__
        raise UsageError(f"the loss must return a dict with 'total_loss', not: {found}")
    for term, value in losses.items():
        if not isinstance(value, Tensor) or value.ndim != 0:
            raise UsageError(f"the loss's term '{term}' must be a scalar tensor")
    _check_training(model, outputs["logits"], losses["total_loss"])
    return list(losses)


def _check_training(model: nn.Module, logits: Tensor, total: Tensor) -> None:
    """Refuse a loss that leaves weights untrained on which the predictions depend."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named or not logits.requires_grad:
        return
    if not total.requires_grad:
        raise UsageError("total_loss depends on no weight of the model: nothing would be trained")
    gradients = partial(torch.autograd.grad, allow_unused=True, retain_graph=True)
    try:
        if gradients(total, [logits])[0] is not None:
            return
        weights = list(named.values())
        predicting = gradients(logits.sum(), weights)
        trained = gradients(total, weights)
    except RuntimeError:  # a module without a backward pass in evaluation mode
        return
    for weight, used, moved in zip(named, predicting, trained, strict=True):
        if used is not None and moved is None:
            raise UsageError(
                f"the loss does not read the logits and leaves '{weight}' untrained, on which the "
                "predictions depend; add a term that reads them (loss.name weighted)"
            )


def _check_outputs(name: str, outputs: object, expected: tuple[int, int]) -> None:
    if not isinstance(outputs, Mapping):
        raise UsageError(f"{name} must return a dict with 'logits', not {type(outputs).__name__}")
    if outputs.get("logits") is None:
        raise UsageError(f"{name} returns no 'logits'{nearest('logits', outputs)}; expected [B, C]")
    samples = expected[0]
    for key in ("logits", *HEADS):
        _check_tensor(name, key, outputs.get(key), "[B, C]", expected)
    for key in VECTORS:
        _check_tensor(name, key, outputs.get(key), "[B, E]", (samples, None))
    before, after = outputs.get("spec_embedding"), outputs.get("gated_spec")
    if before is not None and after is not None and before.shape != after.shape:
        raise UsageError(
            f"{name} gives gated_spec of shape {list(after.shape)}, expected that of "
            f"spec_embedding, {list(before.shape)}"
        )
    _check_weights(name, outputs.get(WEIGHTS), samples)


def _check_tensor(
    name: str, key: str, value: object, form: str, expected: tuple[int, int | None]
) -> None:
    if value is None:
        return
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"{name} gives {key} as {kind}, expected a float tensor {form}")
    samples, width = expected
    if value.ndim != 2 or len(value) != samples or width not in (None, value.shape[1]):
        needed = f"[{samples}, {form[4] if width is None else width}]"
        shape = list(value.shape)
        raise UsageError(f"{name} gives {key} of shape {shape}, expected {form} = {needed}")


def _check_weights(name: str, found: object, samples: int) -> None:
    expected = f"expected a dict of tensors [B, ...], or one, or a list of them; B = {samples}"
    named: Mapping[str, object] = {}
    if isinstance(found, Mapping):
        for key in found:
            if not isinstance(key, str):
                raise UsageError(f"{name} names {WEIGHTS} by {key!r}, expected text")
        named = {f"{WEIGHTS}['{key}']": each for key, each in found.items()}
    elif isinstance(found, (list, tuple)):
        named = {f"{WEIGHTS}[{number}]": each for number, each in enumerate(found)}
    elif found is not None:
        named = {WEIGHTS: found}
    for key, each in named.items():
        if each is None:
            continue
        if not isinstance(each, Tensor):
            raise UsageError(f"{name} gives {key} as {type(each).__name__}, {expected}")
        if each.ndim < 2 or len(each) != samples:
            raise UsageError(f"{name} gives {key} of shape {list(each.shape)}, {expected}")


def _check_attention(name: str, model: nn.Module, outputs: Mapping[str, Any], batch: Any) -> None:
    """Check the weights of one sample, and their dimensions over scans."""
    if outputs.get(WEIGHTS) is None and not any(hasattr(m, SWITCH) for m in model.modules()):
        return
    one = batch.spectra[:1], batch.mask[:1], batch.tabular[:1]
    with showing_attention(model):
        _check_weights(name, model(*one).get(WEIGHTS), 1)
        try:
            find_scan_axes(model, one, one[0].device)
        except (RuntimeError, ValueError, IndexError, KeyError) as error:
            refused = f"{name} returns {WEIGHTS}, but takes no further scan that is only padding"
            raise UsageError(f"{refused}: {one_line(error)}") from error

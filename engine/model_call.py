"""Calls of a model and its loss with the parts of a batch that they take."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from datasets.errors import UsageError
from models.combination import PARTS

# What a model may take beside spectra, mask and covariates.
FURTHER = ("scan_rows", "offset", "fold")
# What torch.compile wraps is a child of this name; to ask for the wrapper's class would import
# the whole compiler.
COMPILED = "_orig_mod"


@functools.cache
def _taken(forward: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(forward).parameters
    return [name for name in FURTHER if name in parameters]


def unwrap_model(network: nn.Module) -> nn.Module:
    """The model inside ``(Distributed)DataParallel`` and ``torch.compile``."""
    if isinstance(network, (DistributedDataParallel, nn.DataParallel)):
        return unwrap_model(network.module)
    compiled = network._modules.get(COMPILED)
    return network if compiled is None else unwrap_model(compiled)


def call_model(model: nn.Module, batch: Any) -> Any:
    """The model's outputs for a batch, whose ``FURTHER`` parts are passed if it takes them.

    The rows are those of ``spectra.flatten(0, 1)`` that are real scans, long [N]: on a GPU, finding
    them from the mask would wait. The others are of :class:`datasets.batches.Batch`.
    """
    taken = _taken(type(unwrap_model(model)).forward)
    further = {name: getattr(batch, name, None) for name in taken}
    return model(batch.spectra, batch.mask, batch.tabular, **further)


def call_loss(loss: Any, outputs: Any, targets: Any, aux: Any = None) -> Any:
    """The named losses of a model's outputs.

    ``aux`` (``Batch.aux``) is passed if the loss takes it and there is one, or if it requires it.
    Of outputs with ``parts``, a list of outputs, each loss is the mean over the parts.
    """
    parts = outputs.get(PARTS) if isinstance(outputs, Mapping) else None
    if parts:
        losses = [call_loss(loss, part, targets, aux) for part in parts]
        return {name: sum(each[name] for each in losses) / len(losses) for name in losses[0]}
    takes, needs = _aux_of(_function_of(loss))
    if needs or (takes and aux is not None):
        return loss(outputs, targets, aux=aux)
    return loss(outputs, targets)


def check_loss_arguments(loss: Any, aux: Any = None) -> None:
    """Refuse a loss that :func:`call_loss` cannot call, or that ignores the batch's ``aux``."""
    takes, needs = _aux_of(_function_of(loss))
    name = getattr(loss, "__qualname__", type(loss).__name__)
    if aux is not None and not takes:
        raise UsageError(f"the batches have aux, but the loss {name} does not take the keyword aux")
    function = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        inspect.signature(function).bind(None, None, **({"aux": None} if takes or needs else {}))
    except TypeError as error:
        raise UsageError(
            f"the loss {name} cannot be called with (outputs, targets, aux=...): {error}"
        ) from error
    except ValueError:  # not written in Python: only the call itself can tell
        return


def _function_of(loss: Any) -> Any:
    """The function that all losses of a class share."""
    method = type(loss).forward if isinstance(loss, nn.Module) else loss
    return getattr(method, "__func__", method)


@functools.cache
def _aux_of(function: Any) -> tuple[bool, bool]:
    """Whether a loss takes the keyword ``aux``, and whether it requires it."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False, False
    aux = parameters.get("aux")
    if aux is None:
        return any(each.kind is each.VAR_KEYWORD for each in parameters.values()), False
    return True, aux.default is aux.empty

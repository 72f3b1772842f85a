"""Calling a model and its loss with what they take of a batch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from engine.errors import UsageError

SCAN_ROWS = "scan_rows"
# What torch.compile wraps is a child of this name; to ask for the wrapper's class would import
# the whole compiler.
COMPILED = "_orig_mod"


@functools.cache
def _takes_scan_rows(forward: Callable[..., Any]) -> bool:
    return SCAN_ROWS in inspect.signature(forward).parameters


def bare_model(network: nn.Module) -> nn.Module:
    """The model within what ``DistributedDataParallel`` or ``torch.compile`` made of it.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1)
        >>> bare_model(torch.compile(model)) is model
        True
    """
    if isinstance(network, DistributedDataParallel):
        return bare_model(network.module)
    compiled = network._modules.get(COMPILED)
    return network if compiled is None else bare_model(compiled)


def call_model(model: nn.Module, batch: Any) -> Any:
    """The model's outputs for a batch.

    ``scan_rows`` (long [N], the rows of ``spectra.flatten(0, 1)`` that are real scans) is handed
    on to a model that asks for it: found from the mask on a GPU, they would be waited for.

    Args:
        model: Called with ``spectra``, ``mask`` and ``tabular``; or what wraps such a model
            (:func:`bare_model`).
        batch: Offers them, and may offer ``scan_rows``.
    """
    if _takes_scan_rows(type(bare_model(model)).forward):
        rows = getattr(batch, SCAN_ROWS, None)
        return model(batch.spectra, batch.mask, batch.tabular, scan_rows=rows)
    return model(batch.spectra, batch.mask, batch.tabular)


def call_loss(loss: Any, outputs: Any, batch: Any) -> Any:
    """The named losses of a model's outputs for a batch.

    Args:
        loss: Called with the outputs, the targets and, where the batch has one or the loss cannot
            do without, the keyword ``aux``.
        outputs: Of the model.
        batch: Offers ``target``, and may offer ``aux``.
    """
    aux = getattr(batch, "aux", None)
    if aux is None and not _needs_aux(_function_of(loss)):
        return loss(outputs, batch.target)
    return loss(outputs, batch.target, aux=aux)


def check_loss_arguments(loss: Any, batch: Any) -> None:
    """Refuse a loss that :func:`call_loss` cannot call.

    Raises:
        UsageError: It demands other arguments, or does not take the ``aux`` that the batch has.
    """
    bound = loss.forward if isinstance(loss, nn.Module) else loss
    has_aux = getattr(batch, "aux", None) is not None or _needs_aux(_function_of(loss))
    try:
        inspect.signature(bound).bind(None, batch.target, **({"aux": None} if has_aux else {}))
    except TypeError as error:
        name = getattr(loss, "__qualname__", type(loss).__name__)
        raise UsageError(
            f"the loss {name} cannot be called with (outputs, targets, aux=...): {error}"
        ) from error
    except ValueError:  # not written in Python: only the call itself can tell
        return


def _function_of(loss: Any) -> Any:
    """What tells two losses of one signature from others: a class's function, not its object."""
    method = type(loss).forward if isinstance(loss, nn.Module) else loss
    return getattr(method, "__func__", method)


@functools.cache
def _needs_aux(function: Any) -> bool:
    try:
        parameter = inspect.signature(function).parameters.get("aux")
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.default is inspect.Parameter.empty

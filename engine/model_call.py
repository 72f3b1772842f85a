"""Calling a model with what it takes of a batch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

SCAN_ROWS = "scan_rows"
# What torch.compile wraps is a child of this name; to ask for the wrapper's class would import
# the whole compiler.
COMPILED = "_orig_mod"


@functools.cache
def _takes_scan_rows(forward: Callable[..., Any]) -> bool:
    return SCAN_ROWS in inspect.signature(forward).parameters


def bare_model(network: nn.Module) -> nn.Module:
    """The model within what ``(Distributed)DataParallel`` or ``torch.compile`` made of it.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1)
        >>> bare_model(torch.compile(model)) is model
        True
    """
    if isinstance(network, (DistributedDataParallel, nn.DataParallel)):
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

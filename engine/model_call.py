"""Calling a model with what it takes of a batch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

SCAN_ROWS = "scan_rows"


@functools.cache
def _takes_scan_rows(forward: Callable[..., Any]) -> bool:
    return SCAN_ROWS in inspect.signature(forward).parameters


def call_model(model: nn.Module, batch: Any) -> Any:
    """The model's outputs for a batch.

    ``scan_rows`` (long [N], the rows of ``spectra.flatten(0, 1)`` that are real scans) is handed
    on to a model that asks for it: found from the mask on a GPU, they would be waited for.

    Args:
        model: Called with ``spectra``, ``mask`` and ``tabular``; or what wraps such a model, and
            has it as ``module``, as ``DistributedDataParallel`` does.
        batch: Offers them, and may offer ``scan_rows``.
    """
    wrapped = getattr(model, "module", model)
    if _takes_scan_rows(type(wrapped).forward):
        rows = getattr(batch, SCAN_ROWS, None)
        return model(batch.spectra, batch.mask, batch.tabular, scan_rows=rows)
    return model(batch.spectra, batch.mask, batch.tabular)

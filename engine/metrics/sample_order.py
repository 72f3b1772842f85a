"""One order of samples, whatever the batches were and however many processes took them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

NUMBERS = re.compile(r"(\d+)")


def order_of(loader: Any) -> list[str] | None:
    """The names of a loader's samples in the order of its data set.

    Args:
        loader: Or what goes through one, with it as ``loader``.

    Returns:
        None where the data set has no names, or the loader yields one process's share of it.
    """
    inner = getattr(loader, "loader", loader)
    names = getattr(getattr(inner, "dataset", None), "sample_ids", None)
    shares = getattr(getattr(inner, "batch_sampler", None), "world_size", 1)
    return list(names) if names is not None and shares == 1 else None


def rows_in_order(names: Sequence[str], order: Sequence[str] | None = None) -> list[int]:
    """The numbers of samples, sorted into a given order.

    Args:
        names: Of N samples, as batches brought them; equal names keep their order.
        order: Names in the order that is wanted, that of the cohort; None for the names' own, in
            which s2 stands before s10.

    Example:
        >>> rows_in_order(["c", "a", "b"], order=["b", "c", "a"])
        [2, 0, 1]
        >>> rows_in_order(["s10", "s2"])
        [1, 0]
    """
    if order is None:
        keys: list[Any] = [_natural(name) for name in names]
    else:
        place = {name: number for number, name in enumerate(order)}
        keys = [place[name] for name in names]
    return sorted(range(len(names)), key=keys.__getitem__)


def _natural(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """A key that sorts the numbers within names by their size."""
    parts = NUMBERS.split(name)
    # Texts and numbers take turns, so that only their like are compared.
    return [(0, int(p)) if n % 2 else (1, p) for n, p in enumerate(parts)], name

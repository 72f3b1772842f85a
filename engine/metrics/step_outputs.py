"""Outputs of the steps of an epoch, in the order of one process."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.distributed import interleave

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


TOTAL = "total_loss"
# How far a step's total, computed in single precision, may be from the sum of its terms.
SAME = 1e-5


@dataclass(frozen=True)
class StepOutputs:
    """The steps of one process, on the CPU, in the order in which it took them.

    Attributes:
        sizes: Samples in each of the n steps' batches.
        logits: [N, C].
        target: [N], or [N, T].
        sample_id: The N samples' names.
        losses: Loss name -> each step's [n], double.
        denominators: Loss name -> what each step's mean was divided by, [n], double; those that
            are not listed were divided by ``sizes``.
        of_samples: Name of a sample statistic -> [N], double.
    """

    sizes: list[int]
    logits: Tensor
    target: Tensor
    sample_id: list[str]
    losses: Mapping[str, Tensor]
    of_samples: Mapping[str, Tensor]
    denominators: Mapping[str, Tensor] = field(default_factory=dict)

    def mean_losses(
        self, total: Callable[[Mapping[str, Any]], Any] | None = None
    ) -> dict[str, float]:
        """Loss name -> the mean of one batch with all samples, whatever the batches were.

        Args:
            total: The ``total_loss`` that belongs to the other terms. It counts where the steps'
                totals are such, and not made otherwise by a handler.
        """
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        means = {}
        for name, each in self.losses.items():
            counts = self.denominators.get(name, sizes)
            # A batch of weight 0 has no part, not one of 0 times what it is.
            parts = torch.where(counts > 0, each * counts, 0.0)
            means[name] = float(parts.sum() / counts.sum())
        if total is not None and self.denominators and makes(total, self.losses):
            means[TOTAL] = float(total(terms_of(means)))
        return means


def makes(total: Callable[[Mapping[str, Any]], Any], losses: Mapping[str, Tensor]) -> bool:
    """Whether the ``total_loss`` of all batches is what ``total`` makes of their other terms.

    Args:
        total: From terms to their total.
        losses: Name -> the value in each of n batches, [n], double.
    """
    found = torch.as_tensor(total(terms_of(losses)), dtype=torch.float64)
    return torch.allclose(found, losses[TOTAL], rtol=SAME, equal_nan=True)


def terms_of(losses: Mapping[str, Any]) -> dict[str, Any]:
    """The losses but for their total."""
    return {name: value for name, value in losses.items() if name != TOTAL}


def joined(parts: Sequence[StepOutputs | None]) -> StepOutputs | None:
    """The steps of all processes, as one process that takes all batches would have kept them.

    Args:
        parts: Of each process, in the order of their ranks; None of one that took no step.

    Returns:
        None where no process took any.

    Example:
        >>> def kept(names: str) -> StepOutputs:
        ...     zeros = torch.zeros(len(names))
        ...     return StepOutputs([1] * len(names), zeros[:, None], zeros, list(names), {}, {})
        >>> joined([kept("ac"), kept("b"), None]).sample_id
        ['a', 'b', 'c']
    """
    there = [part for part in parts if part is not None]
    if len(there) < 2:
        return there[0] if there else None
    # Where each process's rows and steps stand when one process's follow the other's.
    sizes = [size for part in there for size in part.sizes]
    rows = list(torch.arange(sum(sizes)).split(sizes))
    numbers = iter(range(len(sizes)))
    steps = interleave([[next(numbers) for _ in part.sizes] for part in there])
    order = torch.cat([rows[step] for step in steps])
    names = [name for part in there for name in part.sample_id]
    return StepOutputs(
        sizes=[sizes[step] for step in steps],
        logits=torch.cat([part.logits for part in there])[order],
        target=torch.cat([part.target for part in there])[order],
        sample_id=[names[row] for row in order.tolist()],
        losses={
            name: torch.cat([part.losses[name] for part in there])[steps]
            for name in there[0].losses
        },
        of_samples={
            name: torch.cat([part.of_samples[name] for part in there])[order]
            for name in there[0].of_samples
        },
        denominators={
            name: torch.cat([part.denominators[name] for part in there])[steps]
            for name in there[0].denominators
        },
    )

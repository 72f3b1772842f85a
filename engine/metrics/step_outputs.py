"""Outputs of the steps of an epoch, kept on the device and put in the order of one process."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from engine.distributed import gather, interleave, world_size
from engine.events import OrderedEngine, Phase

TOTAL = "total_loss"
# Relative tolerance of a step's total, in single precision, against the sum of its terms.
SAME = 1e-5
NUMBERS = re.compile(r"(\d+)")


class OutputCollector(ABC):
    """Keeps something of each step, in the loader's order, on the device until the epoch's end."""

    phase = Phase.MEASURE

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []

    def attach(self, evaluator: Any) -> None:
        """Listen to the start of evaluations and to their steps."""
        evaluator.add_event_handler(Events.STARTED, self.reset)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self)
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, self.join)

    def detach(self, evaluator: Any) -> None:
        """Listen no longer; what was kept stays."""
        evaluator.remove_event_handler(self.reset, Events.STARTED)
        evaluator.remove_event_handler(self, Events.ITERATION_COMPLETED)
        evaluator.remove_event_handler(self.join, Events.EPOCH_COMPLETED)

    def reset(self) -> None:
        """Forget the steps so far."""
        self._kept = []

    def __call__(self, engine: OrderedEngine) -> None:
        """Keep one step."""
        found = self.take(engine)
        if found is not None:
            self._kept.append(found)

    def join(self) -> None:
        """Get the steps of all ranks. Collective."""
        self._kept = in_order(self._kept)

    def column(self, name: str) -> Tensor | None:
        """What was kept of all steps under a name, on the CPU; None without."""
        return torch.cat([step[name] for step in self._kept]).cpu() if self._kept else None

    @abstractmethod
    def take(self, engine: Any) -> dict[str, Any] | None:
        """What to keep of the engine's batch and outputs, by the same names each step; or None."""


def in_order(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps (by name, nested tensors) of all ranks in the order of one process. Collective."""
    return steps if world_size() == 1 else joined(gather(packed(steps)))


def joined(parts: Sequence[Any]) -> list[Any]:
    """The :func:`packed` steps of several ranks in the order of one process."""
    return interleave([_unpacked(part) for part in parts])


def packed(steps: Sequence[Any]) -> Any:
    """Steps with one CPU tensor per name, so that the device is waited for once per name."""
    if steps and isinstance(steps[0], Mapping):
        return len(steps), {name: packed([step[name] for step in steps]) for name in steps[0]}
    if steps and isinstance(steps[0], Tensor):
        return torch.cat([step.reshape(-1) for step in steps]).cpu(), [step.shape for step in steps]
    return list(steps)


def _unpacked(part: Any) -> list[Any]:
    if isinstance(part, list):
        return part
    first, second = part
    if isinstance(first, Tensor):
        values = first.split([shape.numel() for shape in second])
        return [value.view(shape) for value, shape in zip(values, second, strict=True)]
    columns = {name: _unpacked(column) for name, column in second.items()}
    return [{name: column[step] for name, column in columns.items()} for step in range(first)]


def mean_losses(
    losses: Mapping[str, Tensor],
    sizes: Sequence[int],
    denominators: Mapping[str, Tensor],
    total: Callable[[Mapping[str, Any]], Any] | None = None,
) -> dict[str, float]:
    """Loss name -> the mean of one batch with all samples, whatever the batches were.

    ``losses`` are [n] of n steps, double; ``denominators`` what their means were divided by, if not
    the steps' ``sizes``. ``total`` makes the ``total_loss`` of the other terms; it is used if the
    steps' totals are its, and were not changed by a handler.
    """
    samples = torch.tensor(sizes, dtype=torch.float64)
    means = {}
    for name, each in losses.items():
        counts = denominators.get(name, samples)
        # A batch of weight 0 has no part, even if its loss is not finite.
        parts = torch.where(counts > 0, each * counts, 0.0)
        means[name] = float(parts.sum() / counts.sum())
    if total is not None and denominators and makes(total, losses):
        means[TOTAL] = float(total(terms_of(means)))
    return means


def makes(total: Callable[[Mapping[str, Any]], Any], losses: Mapping[str, Tensor]) -> bool:
    """Whether ``total`` of the other terms is the ``total_loss`` of all n batches ([n], double)."""
    found = torch.as_tensor(total(terms_of(losses)), dtype=torch.float64)
    return torch.allclose(found, losses[TOTAL], rtol=SAME, equal_nan=True)


def terms_of(losses: Mapping[str, Any]) -> dict[str, Any]:
    """The losses without their total."""
    return {name: value for name, value in losses.items() if name != TOTAL}


def order_of(loader: Any) -> list[str] | None:
    """The names of a loader's samples in the order of its data set; None for one rank's share."""
    inner = getattr(loader, "loader", loader)
    names = getattr(getattr(inner, "dataset", None), "sample_ids", None)
    shares = getattr(getattr(inner, "batch_sampler", None), "world_size", 1)
    return list(names) if names is not None and shares == 1 else None


def rows_in_order(names: Sequence[str], order: Sequence[str] | None = None) -> list[int]:
    """The row numbers of samples, sorted into an order; equal names keep theirs.

    ``order`` holds all names; None is the natural order (s2 before s10).
    """
    if order is None:
        keys: list[Any] = [_natural(name) for name in names]
    else:
        place = {name: number for number, name in enumerate(order)}
        keys = [place[name] for name in names]
    return sorted(range(len(names)), key=keys.__getitem__)


def _natural(name: str) -> tuple[list[tuple[int, int | str]], str]:
    # Texts and numbers alternate, so that only equal types are compared.
    parts = NUMBERS.split(name)
    return [(0, int(p)) if n % 2 else (1, p) for n, p in enumerate(parts)], name

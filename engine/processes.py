"""The processes that train one model together: who is who, and what they tell each other.

Thin words over ``ignite.distributed``; a process that trains alone is the first of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import ignite.distributed as idist
import torch

T = TypeVar("T")

# How tensors travel: NCCL between GPUs, Gloo between processors.
BACKENDS = {"cuda": "nccl", "cpu": "gloo"}


def rank() -> int:
    """Which of the processes this one is, from 0."""
    return int(idist.get_rank())


def world() -> int:
    """How many processes there are."""
    return int(idist.get_world_size())


def is_first() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return rank() == 0


def gather(value: T) -> list[T]:
    """What each process holds, in the order of their ranks; every process has to call it.

    Tensors are best moved to the CPU before: they come back on the device that they were on.

    Args:
        value: Anything that can be pickled; its shape may differ from process to process.

    Example:
        >>> gather({"alone": 1})
        [{'alone': 1}]
    """
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    torch.distributed.all_gather_object(found, value)
    return found


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, given to all; where it fails, all fail alike.

    Args:
        make: Called in the first process only.

    Raises:
        Exception: What ``make`` raised, in every process.

    Example:
        >>> from_first(lambda: "runs/one")
        'runs/one'
    """
    made: tuple[T | None, Exception | None] = (None, None)
    if is_first():
        try:
            made = make(), None
        except Exception as error:  # raised again below, by every process
            made = None, error
    value, failure = gather(made)[0]
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]


@contextmanager
def first_then_others() -> Iterator[None]:
    """The first process goes through the block before the others: what it left, they find.

    Where the block fails in the first process, the others still go through it, and fail or not
    by themselves.
    """
    if not is_first():
        idist.barrier()
    try:
        yield
    finally:
        if is_first():
            idist.barrier()

"""The processes that train one model together: who is who, and what they tell each other.

Thin words over ``ignite.distributed``; a process that trains alone is the first of one.

What is called "together" below is a meeting: every process has to come to it, in the same order,
or the others wait for it in vain.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, zip_longest
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from ignite.distributed.comp_models import _SerialModel
from torch import Tensor

from datasets.errors import UsageError

T = TypeVar("T")

# How tensors travel: NCCL between GPUs, Gloo between processors.
BACKENDS = {"cuda": "nccl", "cpu": "gloo"}

# What Gloo says, as a RuntimeError like any other, when the other end of a connection is gone.
GLOO_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "Application timeout caused pair closure",
)
PEER_LOST = "another process of this job ended or does not answer any more"


class PeerLostError(UsageError):
    """Another process of the job is gone, so that nothing can be done together any more."""


def rank() -> int:
    """Which of the processes this one is, from 0."""
    return int(idist.get_rank())


def world_size() -> int:
    """How many processes there are."""
    return int(idist.get_world_size())


def is_main_process() -> bool:
    """Whether this process is the one that writes and speaks for all."""
    return rank() == 0


@contextmanager
def alone() -> Iterator[None]:
    """A context in which this process is the first of one: nobody is asked, nobody waited for.

    For what one process does while the others do something else, or wait: examining the trained
    model on the whole test side, say.

    Example:
        >>> with alone():
        ...     rank(), world_size(), gather("mine")
        (0, 1, ['mine'])
    """
    # What Ignite asks by itself (its search for a learning rate does) is answered likewise.
    before = idist.utils._model, idist.utils._need_to_sync
    idist.utils._model, idist.utils._need_to_sync = _SerialModel(), False
    try:
        yield
    finally:
        idist.utils._model, idist.utils._need_to_sync = before


# -- together -------------------------------------------------------------------------------


def gather(value: T) -> list[T]:
    """What each process holds, in the order of their ranks; every process has to call it.

    Tensors are best moved to the CPU before: they come back on the device that they were on.

    Args:
        value: Anything that can be pickled; its shape may differ from process to process.

    Raises:
        PeerLostError: Another process is gone.

    Example:
        >>> gather({"alone": 1})
        [{'alone': 1}]
    """
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    with lost_peers_told():
        torch.distributed.all_gather_object(found, value)
    return found


def broadcast_from_main(make: Callable[[], T]) -> T:
    """What the first process makes, given to all; where it fails, all fail alike.

    Args:
        make: Called in the first process only; it may not meet the others.

    Raises:
        Exception: What ``make`` raised, in every process.

    Example:
        >>> broadcast_from_main(lambda: "runs/one")
        'runs/one'
    """
    made: T | None = None
    failure: Exception | None = None
    if is_main_process():
        try:
            made = make()
        except Exception as error:  # raised again below, by every process
            failure = error
    told, why = gather((made, _sendable(failure)))[0]
    if failure is not None:
        raise failure
    if why is not None:
        raise why
    return made if is_main_process() else told  # type: ignore[return-value]


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """A context which, where it fails in any process, fails in all at its end.

    So that no process goes on to a meeting to which another will not come. The context's own
    work may not meet the others.

    Raises:
        Exception: One's own failure, else that of the first process that failed.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # raised again below, when all know of it
        failure = error
    failures = gather(_sendable(failure))
    if failure is not None:
        raise failure
    for other in failures:
        if other is not None:
            raise other


@contextmanager
def main_process_first() -> Iterator[None]:
    """The first process goes through the block before the others: what it left, they find.

    Where the block fails in the first process, the others still go through it, and fail or not
    by themselves.
    """
    if not is_main_process():
        barrier()
    try:
        yield
    finally:
        if is_main_process():
            barrier()


def barrier() -> None:
    """Wait until every process has come here.

    Raises:
        PeerLostError: Another process is gone.
    """
    if world_size() > 1:
        with lost_peers_told():
            idist.barrier()


def all_reduce_max(value: Tensor) -> Tensor:
    """Make a tensor, in place, the largest of all processes', element by element.

    On a GPU nothing waits for it but the GPU itself.

    Example:
        >>> all_reduce_max(torch.tensor([1.0]))
        tensor([1.])
    """
    if world_size() > 1:
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
    return value


def sum_(value: Tensor) -> Tensor:
    """Make a tensor, in place, the sum of all processes', element by element.

    Example:
        >>> sum_(torch.tensor([1.0]))
        tensor([1.])
    """
    if world_size() > 1:
        torch.distributed.all_reduce(value)
    return value


def mean_(tensors: Sequence[Tensor]) -> None:
    """Make tensors, in place, the means of all processes', sent together rather than one by one.

    Args:
        tensors: Alike in each process; on one device.

    Example:
        >>> alone = torch.tensor([1.0])
        >>> mean_([alone])
        >>> alone
        tensor([1.])
    """
    if world_size() == 1:
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for alike in by_type.values():
        # Many small messages take several times as long as one.
        joined = torch.cat([tensor.flatten() for tensor in alike])
        torch.distributed.all_reduce(joined)
        parts = joined.div_(world_size()).split([tensor.numel() for tensor in alike])
        views = [part.view_as(tensor) for part, tensor in zip(parts, alike, strict=True)]
        torch._foreach_copy_(alike, views)


def broadcast_(value: Tensor) -> Tensor:
    """Make a tensor, in place, the first process's.

    Example:
        >>> broadcast_(torch.tensor([1.0]))
        tensor([1.])
    """
    if world_size() > 1:
        torch.distributed.broadcast(value, 0)
    return value


# -- the order of batches -------------------------------------------------------------------


def interleave(parts: Sequence[Sequence[T]]) -> list[T]:
    """The processes' batches in the order in which one process would have seen them.

    Process r of w has the batches r, r + w, r + 2w and so on; some may have one less.

    Args:
        parts: What :func:`gather` gave of each process's list, one entry a batch.

    Example:
        >>> interleave([["a", "c", "e"], ["b", "d"], []])
        ['a', 'b', 'c', 'd', 'e']
    """
    nothing = object()
    rounds = chain.from_iterable(zip_longest(*parts, fillvalue=nothing))
    return [each for each in rounds if each is not nothing]  # type: ignore[misc]


# -- lost peers -----------------------------------------------------------------------------


def peer_failure(error: BaseException) -> str | None:
    """A line for the user where an error means that another process is gone; else None.

    Args:
        error: Whatever came out of training.

    Example:
        >>> peer_failure(RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:6302"))
        'another process of this job ended or does not answer any more'
        >>> peer_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    """
    # The errors of torch.distributed are absent where torch was built without it.
    if isinstance(error, PeerLostError):
        return str(error)
    if isinstance(error, RuntimeError) and any(mark in str(error) for mark in GLOO_LOST):
        return PEER_LOST
    if isinstance(error, getattr(torch.distributed, "DistError", ())):
        return f"{PEER_LOST}: {next(iter(str(error).splitlines()), '')}"
    return None


@contextmanager
def lost_peers_told() -> Iterator[None]:
    """A context in which the failure of another process becomes a :class:`PeerLostError`."""
    try:
        yield
    except RuntimeError as error:
        line = peer_failure(error)
        if line is None or isinstance(error, PeerLostError):
            raise
        raise PeerLostError(line) from error


def _sendable(error: Exception | None) -> Exception | None:
    """An error as other processes can raise it: as it is, or its text where that cannot travel."""
    if error is None:
        return None
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:  # of whatever kind: the error's own way of being pickled failed
        return RuntimeError(f"{type(error).__name__}: {error}")
    return again if isinstance(again, Exception) else RuntimeError(str(error))

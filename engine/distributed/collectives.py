"""Ranks and collectives of the processes that train one model together.

Built on ``ignite.distributed``; a process that trains alone is rank 0 of 1. All ranks must call a
collective in the same order, or the others wait forever.
"""

import pickle
import time
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

# Seconds between two calls; a call takes well under a millisecond.
EVERY_S = 1.0
# Maximum growth of the iterations between calls: the first iterations are often slow.
GROWTH = 4
NEVER = torch.iinfo(torch.int64).max

BACKENDS = {"cuda": "nccl", "cpu": "gloo"}

# Texts of Gloo's RuntimeErrors when another process is gone.
GLOO_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "Application timeout caused pair closure",
)
PEER_LOST = "another process of this job ended or does not answer any more"


class PeerLostError(UsageError):
    """Another process of the job is gone, so that no collective is possible."""


def rank() -> int:
    """This process's number, from 0."""
    return int(idist.get_rank())


def world_size() -> int:
    """The number of processes."""
    return int(idist.get_world_size())


def is_main_process() -> bool:
    """Whether this is rank 0, which writes files and the console for all."""
    return rank() == 0


@contextmanager
def alone() -> Iterator[None]:
    """A context in which this process is rank 0 of 1, without collectives."""
    # Ignite's own collectives (in its learning rate search) are skipped, too.
    before = idist.utils._model, idist.utils._need_to_sync
    idist.utils._model, idist.utils._need_to_sync = _SerialModel(), False
    try:
        yield
    finally:
        idist.utils._model, idist.utils._need_to_sync = before


# -- together -------------------------------------------------------------------------------


def gather(value: T) -> list[T]:
    """The values of all ranks, in order, by pickle; tensors best from the CPU. Collective."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    with lost_peers_told():
        torch.distributed.all_gather_object(found, value)
    return found


def broadcast_from_main(make: Callable[[], T]) -> T:
    """What ``make`` (no collective) returns, or raises, on rank 0, on all ranks. Collective."""
    with raise_on_all_ranks():
        made = make() if is_main_process() else None
    received = gather(made)[0]
    return made if is_main_process() else received  # type: ignore[return-value]


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """A context, without collectives, that raises on all ranks if it raised on any. Collective."""
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # raised again below, on every rank
        failure = error
    failures = gather(_sendable(failure))
    if failure is not None:
        raise failure
    for other in failures:
        if other is not None:
            raise other


@contextmanager
def main_process_first() -> Iterator[None]:
    """A context that rank 0 passes, or leaves by an error, before others enter it. Collective."""
    if not is_main_process():
        barrier()
    try:
        yield
    finally:
        if is_main_process():
            barrier()


def barrier() -> None:
    """Wait for all ranks. Collective."""
    if world_size() > 1:
        with lost_peers_told():
            idist.barrier()


def all_reduce_max(value: Tensor) -> Tensor:
    """Elementwise maximum over the ranks, in place. Collective; the CPU does not wait for a GPU."""
    if world_size() > 1:
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
    return value


def sum_(value: Tensor) -> Tensor:
    """Elementwise sum over the ranks, in place. Collective."""
    if world_size() > 1:
        torch.distributed.all_reduce(value)
    return value


def mean_(tensors: Sequence[Tensor]) -> None:
    """Means over the ranks, in place, of tensors on one device. Collective."""
    if world_size() == 1:
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for alike in by_type.values():
        # One message is several times faster than many small ones.
        joined = torch.cat([tensor.flatten() for tensor in alike])
        torch.distributed.all_reduce(joined)
        parts = joined.div_(world_size()).split([tensor.numel() for tensor in alike])
        views = [part.view_as(tensor) for part, tensor in zip(parts, alike, strict=True)]
        torch._foreach_copy_(alike, views)


def broadcast_(value: Tensor) -> Tensor:
    """Rank 0's tensor, in place. Collective."""
    if world_size() > 1:
        torch.distributed.broadcast(value, 0)
    return value


# -- the order of batches -------------------------------------------------------------------


def interleave(parts: Sequence[Sequence[T]]) -> list[T]:
    """The ranks' batches in the order of one process: rank r of w has r, r + w, r + 2w, ..."""
    nothing = object()
    rounds = chain.from_iterable(zip_longest(*parts, fillvalue=nothing))
    return [each for each in rounds if each is not nothing]  # type: ignore[misc]


# -- lost peers -----------------------------------------------------------------------------


def peer_failure(error: BaseException) -> str | None:
    """A line for the user if an error means that another process is gone; else None."""
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
    """A context that turns the failure of another process into a :class:`PeerLostError`."""
    try:
        yield
    except RuntimeError as error:
        line = peer_failure(error)
        if line is None or isinstance(error, PeerLostError):
            raise
        raise PeerLostError(line) from error


def _sendable(error: Exception | None) -> Exception | None:
    """The error, or its text if it cannot be pickled."""
    if error is None:
        return None
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:  # any: the error's own pickling failed
        return RuntimeError(f"{type(error).__name__}: {error}")
    return again if isinstance(again, Exception) else RuntimeError(str(error))


# -- stopping -------------------------------------------------------------------------------


class StopConsensus:
    """Lets ranks act after the same iteration on what one of them knows, such as a signal.

    Each call is a collective and agrees, by the speed of the slowest rank, on the iteration of the
    next one, about ``every_s`` seconds later: ``due``, None for none. It runs over Gloo, so that no
    GPU is waited for.
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.every_s = every_s
        self.due: int | None = None
        self._asked, self._asked_at = 0, 0.0
        self._step, self._last = 1, NEVER
        self._group: Any = None

    def begin(self, iteration: int, answer: int = 0, last: int | None = None) -> int:
        """Make a first call, as :meth:`ask`; ``last`` is this rank's last iteration. Collective."""
        if self._group is None:
            # A separate group: collectives of the training may be in progress.
            self._group = torch.distributed.new_group(backend="gloo")
        self._step, self._last = 1, NEVER if last is None else last
        return self._call(iteration, answer)

    def ask(self, iteration: int, answer: int) -> int:
        """The largest answer (at least 0) of all ranks. Collective, after the iteration ``due``."""
        seconds = max(time.monotonic() - self._asked_at, 1e-6)
        fitting = int((iteration - self._asked) * self.every_s / seconds)
        self._step = min(max(fitting, 1), GROWTH * self._step)
        return self._call(iteration, answer)

    def _call(self, iteration: int, answer: int) -> int:
        # The maximum of the answers; the minimum of steps and last iterations, as negatives.
        values = torch.tensor([answer, -self._step, -self._last])
        with lost_peers_told():
            torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX, group=self._group)
        largest, step, last = values.abs().tolist()
        self.due = iteration + step if iteration + step <= last else None
        self._asked, self._asked_at = iteration, time.monotonic()
        return int(largest)

"""All-reduce of stop signals, every N steps."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist

from engine.distributed.collectives import lost_peers_told

# Seconds between two calls; a call takes well under a millisecond.
EVERY_S = 1.0
# Maximum growth of the iterations between calls: the first iterations are often slow.
GROWTH = 4
NEVER = torch.iinfo(torch.int64).max


class StopConsensus:
    """Lets ranks act after the same iteration on what one of them knows, such as a signal.

    Each call is a collective and agrees, by the speed of the slowest rank, on the iteration of the
    next one, about ``every_s`` seconds later: ``due``, None for none. It runs over Gloo, so that no
    GPU is waited for.

    Example::

        consensus.begin(0)
        ...
        if engine.state.iteration == consensus.due:
            answer = consensus.ask(engine.state.iteration, own_answer)
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.every_s = every_s
        self.due: int | None = None
        self._asked = 0
        self._asked_at = 0.0
        self._step = 1
        self._last = NEVER
        self._group: Any = None

    def begin(self, iteration: int, answer: int = 0, last: int | None = None) -> int:
        """Make a first call, as :meth:`ask`. Collective.

        ``last`` is the last iteration that this rank will reach, if it may differ.
        """
        if self._group is None:
            # A separate group: collectives of the training may be in progress.
            self._group = dist.new_group(backend="gloo")
        self._step, self._last = 1, NEVER if last is None else last
        return self._call(iteration, answer)

    def ask(self, iteration: int, answer: int) -> int:
        """The largest answer (at least 0) of all ranks. Collective, after the iteration ``due``.

        Raises:
            PeerLostError: Another process is gone.
        """
        seconds = max(time.monotonic() - self._asked_at, 1e-6)
        fitting = int((iteration - self._asked) * self.every_s / seconds)
        self._step = min(max(fitting, 1), GROWTH * self._step)
        return self._call(iteration, answer)

    def _call(self, iteration: int, answer: int) -> int:
        # The maximum of the answers; the minimum of steps and last iterations, as negatives.
        values = torch.tensor([answer, -self._step, -self._last])
        with lost_peers_told():
            dist.all_reduce(values, dist.ReduceOp.MAX, group=self._group)
        largest, step, last = values.abs().tolist()
        self.due = iteration + step if iteration + step <= last else None
        self._asked, self._asked_at = iteration, time.monotonic()
        return int(largest)

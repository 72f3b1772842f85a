"""Noticing that another process of the job is gone, whatever this one is doing."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# The training most often notices by itself, and ends in better order.
GRACE_S = 3.0
# Longer than any training: the watch waits for its neighbour's last word.
ALWAYS = timedelta(days=365)


class PeerWatch:
    """Watches the next process in a ring, from a thread; where it is gone, so is this one soon.

    A process that computes on a GPU may wait there for one that was killed, for hours, and answer
    no signal meanwhile.

    Args:
        rank: Which of the processes this one is.
        world_size: How many there are, at least 2.
        say: Called with nothing where the neighbour is gone and the training has not noticed.
        exit_code: What to leave with then.
    """

    def __init__(self, rank: int, world_size: int, say: Callable[[], None], exit_code: int) -> None:
        self._group: Any = dist.new_group(backend="gloo", timeout=ALWAYS)
        self._next, self._former = (rank + 1) % world_size, (rank - 1) % world_size
        self._say, self._exit_code = say, exit_code
        self._thread = threading.Thread(target=self._watch, name="peer-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take leave of the neighbours; every process has to."""
        dist.send(torch.zeros(1), self._former, group=self._group)
        self._thread.join()

    def _watch(self) -> None:
        try:
            dist.recv(torch.zeros(1), self._next, group=self._group)
        except RuntimeError:
            time.sleep(GRACE_S)
            self._say()
            sys.stdout.flush()
            os._exit(self._exit_code)

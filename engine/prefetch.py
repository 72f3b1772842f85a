"""Batches on the GPU before the step asks for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

# Steps that may be queued on the GPU before the next batch is copied: enough for it never to run
# dry, and a bound to the memory of batches that wait.
STEPS_AHEAD = 3


class DevicePrefetcher:
    """Goes through a loader, and copies each batch while the GPU computes the steps before it.

    The copy goes over a stream of its own, so that it takes no time of the steps', and so does
    what a batch does to be made whole there
    (:meth:`datasets.batches.batch.PackedBatch.to`). From pinned memory the loop does not
    wait for it.

    Args:
        loader: Yields batches that move with ``.to``, and has a length.
        device: A GPU.
    """

    def __init__(self, loader: Any, device: torch.device) -> None:
        self.loader = loader
        self.device = device
        if hasattr(loader, "dataset"):
            self.dataset = loader.dataset  # whoever counts samples asks for it

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch."""
        copying = torch.cuda.Stream(self.device)
        waiting = iter(self.loader)
        # A batch's memory is the copying stream's: it may be used again only when the step that
        # reads it is done, so the batch is held until then.
        held: deque[tuple[torch.cuda.Event, Any]] = deque()
        coming = self._copy(next(waiting, None), copying)
        while coming is not None:
            batch, copied = coming
            coming = self._copy(next(waiting, None), copying)
            computing = torch.cuda.current_stream(self.device)
            computing.wait_event(copied)
            yield batch
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(self.device))
            held.append((done, batch))
            if len(held) > STEPS_AHEAD:
                held.popleft()[0].synchronize()

    def _copy(self, batch: Any, copying: torch.cuda.Stream) -> tuple[Any, torch.cuda.Event] | None:
        if batch is None:
            return None
        with torch.cuda.stream(copying):
            there = batch.to(self.device, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record(copying)
        return there, copied


def prefetched(loader: Any, device: torch.device) -> Any:
    """The loader, for a GPU one that copies ahead.

    Example:
        >>> loader = [1, 2]
        >>> prefetched(loader, torch.device("cpu")) is loader
        True
    """
    return DevicePrefetcher(loader, device) if device.type == "cuda" else loader

"""Batches on the GPU before the step needs them."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

# Steps queued on the GPU before the next batch is copied: enough to keep it busy, with bounded
# memory of waiting batches.
STEPS_AHEAD = 3


class DevicePrefetcher:
    """Copies each batch of a loader to a GPU, on a separate stream, while earlier steps compute."""

    def __init__(self, loader: Any, device: torch.device) -> None:
        self.loader = loader
        self.device = device
        if hasattr(loader, "dataset"):
            self.dataset = loader.dataset  # read to count samples

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch."""
        copying = torch.cuda.Stream(self.device)
        waiting = iter(self.loader)
        # A batch's memory belongs to the copying stream, so the batch is held until the step that
        # reads it is done.
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
    """The loader, or a :class:`DevicePrefetcher` of it for a GPU."""
    return DevicePrefetcher(loader, device) if device.type == "cuda" else loader

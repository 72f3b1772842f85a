"""Memory for the scans of a batch, used again for a later one."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict

import numpy as np

# Smaller arrays are the allocator's own business, and larger ones too rare to keep memory for.
SMALLEST_BYTES = 128 * 2**10
LARGEST_BYTES = 64 * 2**20
# Of memory that nobody refers to.
KEPT_BYTES = 128 * 2**20


class ScanBuffers:
    """Makes arrays whose memory comes back when nobody refers to them any more.

    Batches of unequal sizes make the allocator hand memory back to the system, which has to clear
    it page by page before it is written to again: that takes longer than reading the scans.

    An array is like any other. Whoever holds it, a view of it or a tensor made from it, holds its
    memory.

    Example:
        >>> buffers = ScanBuffers()
        >>> scans = buffers.empty(64, 1024)
        >>> where = scans.__array_interface__["data"]
        >>> del scans
        >>> buffers.empty(60, 1024).__array_interface__["data"] == where
        True
    """

    def __init__(self) -> None:
        self._free: dict[int, list[bytearray]] = defaultdict(list)  # by size, a power of two
        self._kept = 0

    def empty(self, *shape: int) -> np.ndarray:
        """An array of that shape, float32, that holds anything."""
        needed = math.prod(shape) * np.dtype(np.float32).itemsize
        if not SMALLEST_BYTES <= needed <= LARGEST_BYTES:
            return np.empty(shape, dtype=np.float32)
        size = 1 << (needed - 1).bit_length()
        try:
            memory = self._free[size].pop()
            self._kept -= size
        except IndexError:
            memory = bytearray(size)
        # NumPy lets a view of a view refer to the array that has the memory. That is this one, as
        # the memory itself is no array.
        scans: np.ndarray = np.ndarray(shape, np.float32, buffer=memory)
        weakref.finalize(scans, self._give_back, size, memory).atexit = False
        return scans

    def _give_back(self, size: int, memory: bytearray) -> None:
        if self._kept + size > KEPT_BYTES:
            # What is there may be of sizes that are no longer asked for.
            self._free.clear()
            self._kept = 0
        self._free[size].append(memory)
        self._kept += size


# One for all of a process.
BUFFERS = ScanBuffers()

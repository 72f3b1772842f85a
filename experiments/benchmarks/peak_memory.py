"""How much memory a piece of work takes at its most."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

# What Linux tells of a process: its sizes in pages, the resident one second.
SIZES = Path("/proc/self/statm")
INTERVAL_S = 0.005
MEBIBYTE = 2**20


class PeakMemory:
    """Watches how far the resident memory of this process rises while it is entered.

    Attributes:
        mebibytes: By how much at its most, above where it stood; NaN where the system does not
            tell, which only Linux does.

    Example:
        >>> with PeakMemory() as peak:
        ...     held = bytearray(64 * 2**20)
        >>> not peak.mebibytes < 50
        True
    """

    def __init__(self) -> None:
        self.mebibytes = float("nan")
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        """Start watching."""
        if SIZES.is_file():
            self._began = self._highest = _resident()
            self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop watching."""
        if SIZES.is_file():
            self._done.set()
            self._watcher.join()
            self._highest = max(self._highest, _resident())
            self.mebibytes = (self._highest - self._began) / MEBIBYTE

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL_S):
            self._highest = max(self._highest, _resident())


def _resident() -> int:
    return int(SIZES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""One process at a time writes to a run's folder: a lock that ends with its process."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.errors import UsageError
from experiments.command_line import complain

LOCK_NAME = ".lock"
# A process that was just killed may take so long to disappear.
PATIENCE_S = 2.0


class RunLock:
    """Held from the start of a run's work to its end, by the process that writes.

    The operating system releases the lock when the process ends, however it ends. Within one
    process the lock may be taken several times. The file is removed when the lock is released;
    one that a killed process left locks nothing.

    Args:
        run_dir: The run's folder; it exists.

    Raises:
        UsageError: Another process holds the lock, or the folder cannot be written to.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / LOCK_NAME
        there = self.path.exists()
        self._lock: FileLock | None = FileLock(
            self.path.resolve(), thread_local=False, is_singleton=True, fallback_to_soft=False
        )
        try:
            self._lock.acquire(timeout=PATIENCE_S)
        except Timeout:
            line = f"the run in {run_dir} is being continued by {self._holder()}"
            raise UsageError(line) from None
        except (PermissionError, FileNotFoundError) as error:
            raise UsageError(f"cannot write to {run_dir}: {error.strerror}") from error
        except (OSError, NotImplementedError):  # as the file systems of some clusters say
            self._lock = None
            if not there:
                self.path.unlink(missing_ok=True)
            complain(f"no lock in {run_dir}: its file system has none; let no other process use it")
            return
        told = json.dumps({"process": os.getpid(), "host": platform.node()})
        with contextlib.suppress(OSError):  # a full disk, say: the lock holds all the same
            self.path.write_text(told, encoding="utf-8")

    def release(self) -> None:
        """Let other processes use the folder; a second time it does nothing."""
        lock, self._lock = self._lock, None
        if lock is None or not lock.is_locked:
            return
        if lock.lock_counter == 1:
            with contextlib.suppress(OSError):  # Windows removes no open file
                self.path.unlink()
        lock.release()

    def _holder(self) -> str:
        try:
            told = json.loads(self.path.read_text("utf-8"))
            return f"process {told['process']} on {told['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

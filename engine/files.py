"""Files that are complete or absent: written aside, flushed, renamed into place."""

from __future__ import annotations

import os
from pathlib import Path

# What a file is called while it is being written; one left behind is worthless.
PART_SUFFIX = ".part"


def write_whole(data: bytes | memoryview, folder: Path, *names: str, durable: bool = True) -> None:
    """Write a file so that at every moment either the old one or the whole new one stands.

    Args:
        data: All of it.
        folder: It exists.
        *names: One, or several that are to hold the same, each a file of its own, in the order
            in which they are to appear; earlier files of these names are replaced.
        durable: Return when the disk has it, so that a loss of power cannot undo the write; not
            needed for what can be made again.

    Raises:
        OSError: The disk is full, say; what stood under the name still stands.
    """
    for name in names:
        part = folder / f".{name}{PART_SUFFIX}"
        try:
            with open(part, "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(part, folder / name)
        except BaseException:  # an interrupt must not leave the part behind either
            part.unlink(missing_ok=True)
            raise
    if durable:
        _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    """Wait until the disk knows the folder's names; not all systems can open a folder."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

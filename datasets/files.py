"""Atomic file writes: a file is written aside, flushed and renamed, so it is complete or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Suffix of a file that is being written; one left behind can be deleted.
PART_SUFFIX = ".part"


def write_whole(data: bytes | memoryview, folder: Path, *names: str, durable: bool = True) -> None:
    """Write a file atomically under each of ``names``; an OSError leaves an earlier one unchanged.

    ``durable`` flushes to the disk, so that a loss of power cannot undo the write.
    """
    for name in names:
        with replaced(folder / name, durable) as part, open(part, "wb") as file:
            file.write(data)


@contextmanager
def replaced(path: Path, durable: bool = True) -> Iterator[Path]:
    """A path to write to, renamed to ``path`` at the end unless there is an exception."""
    part = path.with_name(f".{path.name}{PART_SUFFIX}")
    try:
        yield part
        if durable:
            _flush(part, os.O_RDWR)
        os.replace(part, path)
    except BaseException:  # also after an interrupt
        part.unlink(missing_ok=True)
        raise
    if durable and hasattr(os, "O_DIRECTORY"):  # not all systems can open a folder
        _flush(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

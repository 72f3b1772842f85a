"""SHA-256 of files, cached for large ones that have not changed."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from datasets.files import write_whole

HASH_BYTES = 2**20
# Smaller files are hashed fast, and each time.
REMEMBERED_FROM_BYTES = 16 * 2**20
# A file may be changed twice within a tick of the file system's clock, 2 s on FAT.
SETTLED_AFTER_S = 3.0


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()


class ChecksumCache:
    """Checksums of large files by path, size, inode, device and times; ``verify`` hashes again."""

    def __init__(self, folder: Path | None = None, verify: bool = False) -> None:
        self.folder = folder
        self.verify = verify

    def sha256(self, path: Path, measure: Callable[[Path], str] = file_sha256) -> str:
        """The digest of a file; ``measure`` computes it and may raise where content is invalid."""
        if self.folder is None:
            return measure(path)
        entry = self.folder / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.json"
        known = None if self.verify else _recall(entry, path)
        if known is not None:
            return known
        before, began = _identity(path), time.time()
        digest = measure(path)
        settled = max(before["mtime_ns"], before["ctime_ns"]) / 1e9 < began - SETTLED_AFTER_S
        if settled and before["size"] >= REMEMBERED_FROM_BYTES and _identity(path) == before:
            content = {"path": str(path.resolve()), "sha256": digest, "file": before}
            # A folder that cannot be written costs time, nothing else.
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_whole(json.dumps(content).encode(), self.folder, entry.name, durable=False)
        return digest


def _recall(entry: Path, path: Path) -> str | None:
    try:
        known = json.loads(entry.read_text("utf-8"))
        digest: str = known["sha256"]
        same = known["file"] == _identity(path) and known["path"] == str(path.resolve())
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or damaged
    return digest if same else None


def _identity(path: Path) -> dict[str, int]:
    found = path.stat()
    names = ("size", "mtime_ns", "ctime_ns", "ino", "dev")
    return {name: getattr(found, f"st_{name}") for name in names}

"""Writes a cohort's folder atomically: aside, a scan at a time, then renamed.

During an import ``OUT.partial`` holds the spectra so far, a log of the scans, and how much of both
is on disk for certain: an interrupted import continues from there, and ends with the same bytes.
"""

import io
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from datasets.cohort import AXIS_FILE, SPECTRA_FILE
from datasets.errors import CohortError
from datasets.files import PART_SUFFIX, write_whole

PARTIAL_SUFFIX = ".partial"
IDENTITY_FILE, PROGRESS_FILE, LOG_FILE = "import.json", "progress.json", "log.jsonl"
# Becomes OUT.
FINISHED_FOLDER = "finished"
# Most work that an interruption costs.
CHECKPOINT_SECONDS = 2.0
DTYPE = np.dtype("<f4")


@dataclass
class Progress:
    """State of an import: ``files`` done, ``scans`` done of the next one, spectra ``rows`` written.

    ``points`` is L, 0 before the first spectrum; ``log_bytes`` the length of the log.
    """

    files: int = 0
    scans: int = 0
    rows: int = 0
    points: int = 0
    log_bytes: int = 0


class CohortWriter:
    """Writes spectra and a log, durable up to the last checkpoint, and finishes the folder ``out``.

    ``identity`` tells what is imported and how: a partial folder of another import, or a damaged
    one, is a CohortError; one of the same is continued from ``progress``. The caller may keep
    temporary folders in ``partial``; ``finished`` becomes ``out``.
    """

    def __init__(
        self, out: Path, identity: Mapping[str, str], checkpoint_seconds: float = CHECKPOINT_SECONDS
    ) -> None:
        refuse_existing(out)
        self.out = out
        self.partial = out.with_name(out.name + PARTIAL_SUFFIX)
        self.finished = self.partial / FINISHED_FOLDER
        self.checkpoint_seconds = checkpoint_seconds
        self._spectra_path = self.partial / SPECTRA_FILE
        self._claim(dict(identity))
        self.progress = self._read_progress()
        rows, points = self.progress.rows, self.progress.points
        size = len(_header(0, points)) + rows * points * DTYPE.itemsize if points else 0
        self._spectra = _open_cut(self._spectra_path, size)
        self._log = _open_cut(self.partial / LOG_FILE, self.progress.log_bytes)
        self._next_checkpoint = time.monotonic() + checkpoint_seconds

    @property
    def continues(self) -> bool:
        """Whether it continues an interrupted import."""
        return self.progress != Progress()

    def note(self, entry: Mapping[str, Any]) -> None:
        """Add an entry of plain types to the log."""
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        self._log.write(line)
        self.progress.log_bytes += len(line)

    def entries(self) -> Iterator[dict[str, Any]]:
        """The entries of the log so far, in order."""
        self._log.flush()
        with (self.partial / LOG_FILE).open("rb") as lines:
            for line in lines:
                yield json.loads(line)

    def append(self, spectrum: np.ndarray) -> None:
        """Write one more spectrum, [L], as float32."""
        if not self.progress.points:
            self._spectra.write(_header(0, len(spectrum)))
            self.progress.points = len(spectrum)
        self._spectra.write(np.ascontiguousarray(spectrum, dtype=DTYPE).tobytes())
        self.progress.rows += 1

    def scan_done(self) -> None:
        """Mark a scan as complete."""
        self.progress.scans += 1
        self._checkpoint_if_due()

    def file_done(self) -> None:
        """Mark a file as complete."""
        self.progress.files += 1
        self.progress.scans = 0
        self._checkpoint_if_due()

    def checkpoint(self) -> None:
        """Flush spectra and log to disk, and record how much they hold."""
        _flush(self._spectra)
        _flush(self._log)
        _write_json(self.partial / PROGRESS_FILE, asdict(self.progress))
        self._next_checkpoint = time.monotonic() + self.checkpoint_seconds

    def finish(self, axis: np.ndarray, keep: np.ndarray) -> None:
        """Write the kept spectra, bool [rows], and the axis, [L], into `finished`."""
        self.checkpoint()
        if keep.all():
            self._spectra.seek(0)
            self._spectra.write(_header(self.progress.rows, self.progress.points))
            _flush(self._spectra)
            self._spectra.close()
            os.replace(self._spectra_path, self.finished / SPECTRA_FILE)
        else:
            self._copy(np.flatnonzero(keep))
        np.save(self.finished / AXIS_FILE, axis.astype(DTYPE))

    def publish(self) -> None:
        """Rename the finished folder to its place, unless that exists; remove the partial one."""
        self.close()
        refuse_existing(self.out)
        # Slow removals first: after the rename an interruption would leave them beside the folder.
        for entry in self.partial.iterdir():
            if entry.is_dir() and entry != self.finished:
                shutil.rmtree(entry)
        os.rename(self.finished, self.out)
        shutil.rmtree(self.partial)

    def close(self) -> None:
        """Close the files; what the last checkpoint flushed stays."""
        self._spectra.close()
        self._log.close()

    def discard(self) -> None:
        """Remove all that was written."""
        self.close()
        shutil.rmtree(self.partial)

    def _claim(self, identity: dict[str, str]) -> None:
        self.partial.mkdir(parents=True, exist_ok=True)
        path = self.partial / IDENTITY_FILE
        path.with_name(f".{IDENTITY_FILE}{PART_SUFFIX}").unlink(missing_ok=True)
        if not path.exists():
            if any(self.partial.iterdir()):
                raise CohortError(f"{self.partial} is in the way: no import has left it")
            _write_json(path, identity)
        begun = _read_json(path)
        for name in identity | begun:
            if begun.get(name) != identity.get(name):
                raise CohortError(
                    f"{self.partial} holds an interrupted import with another {name}: "
                    f"{begun.get(name)}, now {identity.get(name)}; finish that one, or delete "
                    "the folder to start again"
                )

    def _read_progress(self) -> Progress:
        """The last checkpoint; a finished spectra file is opened again."""
        moved = self.finished / SPECTRA_FILE
        if moved.exists() and not self._spectra_path.exists():
            os.replace(moved, self._spectra_path)
        shutil.rmtree(self.finished, ignore_errors=True)
        self.finished.mkdir()
        path = self.partial / PROGRESS_FILE
        return Progress(**_read_json(path)) if path.exists() else Progress()

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() >= self._next_checkpoint:
            self.checkpoint()

    def _copy(self, rows: np.ndarray) -> None:
        points = self.progress.points
        start, size = len(_header(0, points)), points * DTYPE.itemsize
        with (self.finished / SPECTRA_FILE).open("wb") as target:
            target.write(_header(len(rows), points))
            for row in rows:
                self._spectra.seek(start + int(row) * size)
                target.write(self._spectra.read(size))
            _flush(target)


def refuse_existing(out: Path) -> None:
    """CohortError where the path exists."""
    if os.path.lexists(out):
        raise CohortError(f"{out} exists; it is never overwritten: name another folder")


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _header(rows: int, points: int) -> bytes:
    """Header of the .npy file; NumPy gives it the same length for any number of rows."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": DTYPE.str, "fortran_order": False, "shape": (rows, points)}
    )
    return head.getvalue()


def _open_cut(path: Path, size: int) -> IO[bytes]:
    path.touch()
    file = path.open("r+b")
    if os.fstat(file.fileno()).st_size < size:
        file.close()
        raise CohortError(f"{path} is damaged: it ends early; delete {path.parent}")
    file.truncate(size)
    file.seek(size)
    return file


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CohortError(f"{path} is damaged; delete {path.parent}") from error


def _write_json(path: Path, content: Any) -> None:
    write_whole(json.dumps(content).encode(), path.parent, path.name)

"""Transformed scans on disk: computed once, by several processes, and memory-mapped from then on.

The cache's folder holds a subfolder for each combination of spectra, rows and fitted transforms,
with ``scans.npy`` and ``manifest.json``: written aside and renamed, so that it is complete or
absent. A change of the inputs changes its name; a damaged one is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import marshal
import os
import pickle
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.cohort import ChecksumCache, file_sha256
from datasets.errors import UsageError, one_line
from datasets.loading import start_worker
from datasets.scans import ScanReader

if TYPE_CHECKING:
    from datasets.transforms import Transform

Say = Callable[[str], None]

DTYPE = np.dtype("<f4")
# Scans in a process at once, without the copies of a transform.
CHUNK_BYTES = 16 * 2**20
SCANS_FILE, MANIFEST_FILE = "scans.npy", "manifest.json"
PART_SUFFIX, LOCK_SUFFIX = ".part", ".lock"
FORMAT = 2
MOST_WORKERS = 8
# Age at which leftovers of killed processes are removed.
ABANDONED_AFTER_S = 24 * 3600.0
# Of all entries together; the least recently used are removed.
LIMIT_BYTES = 64 * 2**30
GIB = 2**30


class TransformBuild(Dataset[int]):
    """Numbers of chunks: each access transforms a chunk (``step`` scans) and writes it.

    A data set, so that a loader's workers, which end with this process, do it. ``shape`` is that of
    the file's array, ``offset`` its first byte.
    """

    def __init__(self, spectra: np.ndarray, rows: np.ndarray, transforms: Transform) -> None:
        self.reader = ScanReader(spectra)
        self.rows = rows
        self.transforms = transforms
        points = self._transform(rows[:1]).shape[1]
        self.shape = (len(rows), points)
        self.step = max(1, CHUNK_BYTES // (DTYPE.itemsize * max(1, points, spectra.shape[1])))
        self.file, self.offset = "", 0

    @property
    def nbytes(self) -> int:
        """Size of all transformed scans."""
        return int(np.prod(self.shape)) * DTYPE.itemsize

    def __len__(self) -> int:
        """Number of chunks."""
        return -(-len(self.rows) // self.step)

    def write(self, file: Path, workers: int) -> None:
        """Write all chunks to a new file of full size, in parallel."""
        mapped = np.lib.format.open_memmap(file, mode="w+", dtype=DTYPE, shape=self.shape)
        self.file, self.offset = str(file), int(mapped.offset)
        del mapped
        if hasattr(os, "posix_fallocate"):
            with open(file, "r+b") as opened:
                os.posix_fallocate(opened.fileno(), self.offset, max(1, self.nbytes))
        chunks = DataLoader(
            self,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # without one, torch's global stream would be drawn from
        )
        for _ in chunks:
            pass

    def __getitem__(self, number: int) -> int:
        """Transform and write a chunk; returns its number."""
        first = number * self.step
        scans = self._transform(self.rows[first : first + self.step])
        if scans.shape[1] != self.shape[1]:
            raise ValueError(f"transforms leave {self.shape[1]} points first, then {scans.shape}")
        with open(self.file, "r+b") as opened:
            opened.seek(self.offset + first * self.shape[1] * DTYPE.itemsize)
            opened.write(scans.data)
        return number

    def _transform(self, rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.transforms(self.reader.read(rows)), dtype=DTYPE)


class NoRoomError(UsageError):
    """The disk cannot hold the transformed scans."""


@dataclass(frozen=True, eq=False)
class TransformedScans:
    """Read-only map of transformed scans, float32 [n, L], and their rows, ascending."""

    spectra: np.memmap
    rows: np.ndarray

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Positions here of rows of the cohort's spectra."""
        return np.searchsorted(self.rows, rows)


def transformed_scans(
    spectra: np.ndarray,
    rows: np.ndarray,
    transforms: Transform,
    fingerprint: str,
    folder: Path,
    workers: int | None = None,
    memory: ChecksumCache | None = None,
    limit_bytes: int = LIMIT_BYTES,
    say: Say = print,
) -> TransformedScans:
    """Memory-map the transformed scans of a cohort, computed first where they are missing.

    ``spectra``, [N_scans, L], are usually memory-mapped (only their file is sent to processes);
    ``rows`` in any order; ``transforms`` deterministic and fitted, called with [m, L];
    ``fingerprint`` is of the spectra, such as their file's SHA-256. ``workers`` None is the
    machine's cores, 0 this process. ``memory`` remembers intact entries; without it each call reads
    the whole entry. ``limit_bytes`` is of all entries; this one is kept in any case. ``say`` gets a
    line when something takes long or was damaged.

    Of several processes one computes, the others wait; where files cannot be locked each computes,
    and the first wins. UsageError where the folder cannot be written.
    """
    rows = np.unique(np.asarray(rows, dtype=np.int64))
    identity = {
        "format": FORMAT,
        "spectra": fingerprint,
        "rows": plain_digest(transform_fingerprint(rows)),
        "transforms": transform_fingerprint(transforms),
    }
    place = folder / plain_digest(identity)[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(place.with_name(place.name + LOCK_SUFFIX), say) as alone:
            mapped = _open_sound(place, identity, memory or ChecksumCache(), say)
            if mapped is None:
                if alone:
                    for part in folder.glob(f".{place.name}.*{PART_SUFFIX}"):
                        shutil.rmtree(part, ignore_errors=True)  # a killed process's
                build = TransformBuild(spectra, rows, transforms)
                _make(place, identity, build, _cores() if workers is None else workers, say)
                mapped = np.lib.format.open_memmap(place / SCANS_FILE, mode="r")
            os.utime(place / MANIFEST_FILE)  # time of the last use
        _make_room(folder, place, limit_bytes)
    except OSError as error:
        raise UsageError(
            f"cannot keep transformed scans in {folder}: {error.strerror or error}"
        ) from error
    return TransformedScans(mapped, rows)


def _make(
    place: Path, identity: dict[str, Any], build: TransformBuild, workers: int, say: Say
) -> None:
    folder = place.parent
    room = shutil.disk_usage(folder).free
    if build.nbytes > room:
        raise NoRoomError(
            f"transformed scans take {build.nbytes / GIB:.1f} GiB, {folder} has room for "
            f"{room / GIB:.1f} GiB"
        )
    workers = min(workers, len(build)) if len(build) > 1 else 0
    by = f"{workers} processes" if workers > 1 else "1 process"
    size = f"{build.nbytes / GIB:.2f} GiB"
    say(f"transforming {len(build.rows)} scans once ({size}, {by}) into {place}")
    aside = folder / f".{place.name}.{uuid.uuid4().hex}{PART_SUFFIX}"
    aside.mkdir()
    try:
        build.write(aside / SCANS_FILE, workers)
        digest = file_sha256(aside / SCANS_FILE)
        manifest = {"identity": identity, "shape": list(build.shape), "sha256": digest}
        (aside / MANIFEST_FILE).write_text(json.dumps(manifest), "utf-8")
        shutil.rmtree(place, ignore_errors=True)
        try:
            aside.rename(place)
        except OSError:
            if not (place / MANIFEST_FILE).is_file():
                raise  # otherwise another process was faster, where files cannot be locked
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _open_sound(
    place: Path, identity: dict[str, Any], memory: ChecksumCache, say: Say
) -> np.memmap | None:
    """Map an entry if it exists and matches its manifest; otherwise say why not."""
    if not place.exists():
        return None
    try:
        manifest = json.loads((place / MANIFEST_FILE).read_text("utf-8"))
        if manifest["identity"] != identity:
            raise ValueError("it is of other scans or transforms")
        mapped = np.lib.format.open_memmap(place / SCANS_FILE, mode="r")
        found = [list(mapped.shape), mapped.dtype, mapped.flags.c_contiguous]
        if found != [manifest["shape"], DTYPE, True]:
            raise ValueError(f"it holds {mapped.dtype} {list(mapped.shape)}")
        if memory.sha256(place / SCANS_FILE) != manifest["sha256"]:
            raise ValueError("it was changed since it was written")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = one_line(error)
        say(f"the transformed scans in {place} are damaged ({reason}): computing them again")
        return None
    return mapped


@contextlib.contextmanager
def _locked(path: Path, say: Say) -> Iterator[bool]:
    """Lock an entry; yields False where the file system has no locks."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("another process is at the same transformed scans: waiting for it")
        lock.acquire()
    except NotImplementedError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _make_room(folder: Path, keep: Path, limit_bytes: int) -> None:
    """Remove entries used least recently, and leftovers; a process keeps what it has mapped."""
    used = []
    for manifest in folder.glob(f"[!.]*/{MANIFEST_FILE}"):
        with contextlib.suppress(OSError):  # another process may remove it at the same time
            size = (manifest.parent / SCANS_FILE).stat().st_size
            used.append((manifest.stat().st_mtime, manifest.parent, size))
    total = sum(size for *_, size in used)
    for _, place, size in sorted(used):
        if total > limit_bytes and place != keep:
            total -= size
            shutil.rmtree(place, ignore_errors=True)
    for part in folder.glob(f".*{PART_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(part, ignore_errors=True)


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MOST_WORKERS, cores or 1)


def transform_fingerprint(value: Any) -> Any:
    """Describe a transform, or a part of one, in plain types that are equal where the results are.

    Objects: class, text of its file (not of its imports), attributes; arrays: their bytes.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return transform_fingerprint(value.detach().cpu().numpy())
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        return [array.dtype.str, list(array.shape), _sha256(array.tobytes())]
    if isinstance(value, Mapping):
        return {str(key): transform_fingerprint(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [transform_fingerprint(part) for part in value]
    if isinstance(value, FunctionType):
        inside = [cell.cell_contents for cell in value.__closure__ or ()]
        given = [value.__defaults__, value.__kwdefaults__, inside]
        return [_name(value), _code(value), transform_fingerprint(given)]
    if isinstance(value, type):
        return _name(value)
    if hasattr(value, "__dict__"):
        cls = type(value)
        return [_name(cls), _source(cls), transform_fingerprint(vars(value))]
    return _sha256(pickle.dumps(value))


def plain_digest(value: Any) -> str:
    """SHA-256 of plain types, the same in each process."""
    return _sha256(json.dumps(value, sort_keys=True).encode())


def _source(cls: type[Any]) -> str:
    try:
        file = inspect.getsourcefile(cls)
    except TypeError:
        file = None
    if file is not None and Path(file).is_file():
        return _sha256(Path(file).read_bytes())
    functions = [part for part in vars(cls).values() if isinstance(part, FunctionType)]
    return _sha256("".join(map(_code, functions)).encode())


def _code(function: FunctionType) -> str:
    return _sha256(marshal.dumps(function.__code__))


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

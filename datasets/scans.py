"""Reading scans from memory-mapped arrays into buffers."""

import math
import mmap
import os
import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from datasets.errors import CohortError

# Sizes of arrays whose memory is kept; larger ones are rare.
SMALLEST_BYTES = 128 * 2**10
LARGEST_BYTES = 64 * 2**20
# Most unused memory that is kept.
KEPT_BYTES = 128 * 2**20
HAS_PREADV = hasattr(os, "preadv")  # not on Windows
# Large enough for sequential reads, small beside any machine's memory even as float64 copies.
CHUNK_BYTES = 32 * 2**20


class ScanBuffers:
    """Arrays whose memory is reused once nothing refers to them.

    The allocator would hand it back to the system; clearing it takes longer than reading scans.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[bytearray]] = defaultdict(list)  # by size, a power of two
        self._kept = 0

    def empty(self, *shape: int) -> np.ndarray:
        """An uninitialised float32 array of that shape."""
        needed = math.prod(shape) * np.dtype(np.float32).itemsize
        if not SMALLEST_BYTES <= needed <= LARGEST_BYTES:
            return np.empty(shape, dtype=np.float32)
        size = 1 << (needed - 1).bit_length()
        try:
            memory = self._free[size].pop()
            self._kept -= size
        except IndexError:
            memory = bytearray(size)
        # All views refer to this array, as the memory itself is no array.
        scans: np.ndarray = np.ndarray(shape, np.float32, buffer=memory)
        weakref.finalize(scans, self._give_back, size, memory).atexit = False
        return scans

    def _give_back(self, size: int, memory: bytearray) -> None:
        if self._kept + size > KEPT_BYTES:
            # The kept sizes may be out of use.
            self._free.clear()
            self._kept = 0
        self._free[size].append(memory)
        self._kept += size


# Shared by the process.
BUFFERS = ScanBuffers()


class RaggedRows:
    """The rows of each sample's scans, at least one, in flat arrays: a batch's need no loop.

    ``flat`` holds all, int64 [N_scans]; ``counts`` and ``starts``, int64 [N], each sample's part.
    """

    def __init__(self, rows: Sequence[np.ndarray]) -> None:
        self.flat = np.concatenate([*rows, np.zeros(0, dtype=np.int64)]).astype(np.int64)
        self.counts = np.array([len(own) for own in rows], dtype=np.int64)
        self.starts = np.cumsum(self.counts) - self.counts

    def of(self, samples: np.ndarray) -> np.ndarray:
        """The rows of samples [B], one sample's after the other's, int64 [n]."""
        return self.flat[count_up(self.starts[samples], self.counts[samples])]

    def padded(self, samples: np.ndarray, most: int, filler: int) -> np.ndarray:
        """The rows of samples [B], ``most`` each, filled up with ``filler``, int64 [B x most]."""
        numbers = np.arange(most)
        rows = np.take(self.flat, self.starts[samples][:, None] + numbers, mode="clip")
        rows[numbers >= self.counts[samples][:, None]] = filler
        return rows.reshape(-1)


def count_up(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``counts`` numbers from each of ``starts`` on, int64; both are int64 [n]."""
    numbers = np.repeat(starts - (np.cumsum(counts) - counts), counts)
    numbers += np.arange(len(numbers))
    return numbers


class Runs(NamedTuple):
    """Runs of neighbouring rows, int64 [R]: first row, number of rows, place of the first row."""

    first: np.ndarray
    counts: np.ndarray
    places: np.ndarray


def find_runs(rows: np.ndarray, places: np.ndarray) -> Runs:
    """The runs of rows that go to neighbouring places, both int64 [n]."""
    apart = (np.diff(rows, prepend=rows[:1]) != 1) | (np.diff(places, prepend=places[:1]) != 1)
    starts = np.flatnonzero(apart)
    return Runs(rows[starts], np.diff(starts, append=len(rows)), places[starts])


class ScanReader:
    """Reads rows of spectra [N_scans, L] into fresh arrays; survives forks and pickling.

    Touched pages of a memory map count as the process's own memory, after an epoch the whole file.
    Contiguous float32 rows are therefore read through a descriptor, run by run in the file's order;
    all else is indexed. CohortError where the file was made shorter since it was opened.
    """

    def __init__(self, spectra: np.ndarray) -> None:
        self.spectra = spectra
        self._scans = spectra.view(np.ndarray)  # indexing NumPy's memmap subclass costs more
        self._file: int | None = None
        self._offset = 0
        if is_whole_map(spectra) and _can_be_read(spectra):
            self._file = os.open(str(spectra.filename), os.O_RDONLY)
            self._offset = int(spectra.offset)
            weakref.finalize(self, os.close, self._file)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read scans in the order of ``rows``, [n]; a fresh array, float32 [n, L]."""
        if self._file is None:
            return np.ascontiguousarray(self._scans[rows], dtype=np.float32)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.spectra):
            raise IndexError(f"rows {rows.min()}..{rows.max()} of {len(self.spectra)}")
        scans = BUFFERS.empty(len(rows), self.spectra.shape[1])
        self.read_runs(find_runs(rows, np.arange(len(rows))), scans)
        return scans

    def read_runs(self, runs: Runs, into: np.ndarray) -> None:
        """Read the scans of valid runs into a contiguous float32 array [n, L]."""
        whole = zip(runs.first.tolist(), runs.counts.tolist(), runs.places.tolist(), strict=True)
        if self._file is None:
            for first, count, place in whole:
                into[place : place + count] = self._scans[first : first + count]
            return
        if not into.size:
            return
        scan_bytes = into.strides[0]
        memory = into.data.cast("B")
        for first, count, place in sorted(whole):
            begin, end = place * scan_bytes, (place + count) * scan_bytes
            offset = first * scan_bytes + self._offset
            # The system may return less than it was asked for.
            while got := os.preadv(self._file, [memory[begin:end]], offset):
                begin, offset = begin + got, offset + got
                if begin == end:
                    break
            else:
                raise CohortError("the file of the spectra is shorter than when it was opened")

    def __reduce__(self) -> tuple[Any, ...]:
        """Name the mapped file instead of pickling it; it is opened again."""
        spectra = self.spectra
        if not is_whole_map(spectra):
            return ScanReader, (spectra,)
        where = (str(spectra.filename), spectra.dtype.str, "r", int(spectra.offset))
        return _reopen, (*where, spectra.shape, "F" if np.isfortran(spectra) else "C")


def _reopen(*memory_map: Any) -> ScanReader:
    return ScanReader(np.memmap(*memory_map))


def is_whole_map(spectra: np.ndarray) -> TypeGuard[np.memmap]:
    """Whether it is a map as opened; a view has a file name and offset not its own."""
    return isinstance(spectra, np.memmap) and isinstance(spectra.base, mmap.mmap)


def _can_be_read(spectra: np.memmap) -> bool:
    native = spectra.dtype == np.float32 and spectra.ndim == 2 and spectra.flags.c_contiguous
    # Writes of a copy-on-write map are not in the file.
    return native and spectra.mode != "c" and spectra.filename is not None and HAS_PREADV


def iterate_chunks(spectra: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows [n] of spectra [N_scans, L] in order, in fresh float32 arrays [m, L]."""
    bytes_per_scan = spectra.shape[1] * np.dtype(np.float32).itemsize
    step = max(1, CHUNK_BYTES // max(1, bytes_per_scan))
    reader = ScanReader(spectra)
    for start in range(0, len(rows), step):
        yield reader.read(rows[start : start + step])

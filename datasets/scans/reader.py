"""Scans read by row, from memory or from a memory-mapped file without mapping what is read."""

from __future__ import annotations

import mmap
import os
import weakref
from typing import Any, Literal, NamedTuple, TypeGuard

import numpy as np

from datasets.errors import CohortError
from datasets.scans.buffers import BUFFERS
from datasets.scans.runs import Runs, find_runs

HAS_PREADV = hasattr(os, "preadv")  # not on Windows


class ScanReader:
    """Reads rows of spectra into fresh arrays.

    What is touched of a memory map counts as the process's own memory, after an epoch the whole
    file. A file whose rows are contiguous float32 is therefore read through a descriptor, run by
    run of neighbouring rows and in the order of the file; the system's cache of the file serves
    both alike. Everything else (arrays in memory, views of a map, systems without ``preadv``) is
    indexed.

    A reader survives a fork; sent to another process it opens the file again, so that no spectra
    are sent.

    Args:
        spectra: [N_scans, L].

    Example:
        >>> ScanReader(np.array([[1, 2], [3, 4], [5, 6]])).read(np.array([2, 0])).tolist()
        [[5.0, 6.0], [1.0, 2.0]]
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
        """Read scans.

        Args:
            rows: Which, [n], from 0, in any order, some more than once perhaps.

        Returns:
            float32 [n, L], in the order of ``rows``; a fresh array.

        Raises:
            CohortError: The file was made shorter since it was opened.
        """
        if self._file is None:
            return np.ascontiguousarray(self._scans[rows], dtype=np.float32)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.spectra):
            raise IndexError(f"rows {rows.min()}..{rows.max()} of {len(self.spectra)}")
        scans = BUFFERS.empty(len(rows), self.spectra.shape[1])
        self.read_runs(find_runs(rows), scans)
        return scans

    def read_runs(self, runs: Runs, into: np.ndarray) -> None:
        """Read scans to where they belong.

        Args:
            runs: Which; known to be there.
            into: float32 [n, L], contiguous.

        Raises:
            CohortError: The file was made shorter since it was opened.
        """
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

    def __getstate__(self) -> dict[str, Any]:
        """Name the mapped file instead of holding it."""
        spectra = self.spectra
        return {"spectra": _MappedFile.of(spectra) if is_whole_map(spectra) else spectra}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the named file again."""
        spectra = state["spectra"]
        ScanReader.__init__(self, spectra.open() if isinstance(spectra, _MappedFile) else spectra)


class _MappedFile(NamedTuple):
    """Where a memory map comes from."""

    filename: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    order: Literal["C", "F"]

    @classmethod
    def of(cls, spectra: np.memmap) -> _MappedFile:
        order: Literal["C", "F"] = "F" if np.isfortran(spectra) else "C"
        name, offset = str(spectra.filename), int(spectra.offset)
        return cls(name, spectra.dtype.str, spectra.shape, offset, order)

    def open(self) -> np.memmap:
        return np.memmap(
            self.filename, self.dtype, "r", offset=self.offset, shape=self.shape, order=self.order
        )


def is_whole_map(spectra: np.ndarray) -> TypeGuard[np.memmap]:
    """Whether an array is a map as it was opened.

    A view (of some rows, say) keeps its map's file name and offset, which are not its own.
    """
    return isinstance(spectra, np.memmap) and isinstance(spectra.base, mmap.mmap)


def _can_be_read(spectra: np.memmap) -> bool:
    """Whether its rows stand one behind the other in a file, as they are wanted."""
    native = spectra.dtype == np.float32 and spectra.ndim == 2 and spectra.flags.c_contiguous
    # What was written through the map itself is in the file, too; what is private to it is not.
    return native and spectra.mode != "c" and spectra.filename is not None and HAS_PREADV

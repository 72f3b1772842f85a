"""Scans transformed chunk by chunk into one .npy file, by several processes at once."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.loading import start_worker
from datasets.scans import ScanReader
from datasets.transforms import Transform

DTYPE = np.dtype("<f4")
# What a process holds at once, but for the copies that a transform makes.
CHUNK_BYTES = 16 * 2**20


class TransformBuild(Dataset[int]):
    """Chunk numbers to checksums: each access transforms a chunk and writes it to its place.

    A data set, so that a loader's workers do it: they end with this process, whatever ends it.

    Args:
        spectra: [N_scans, L], usually memory-mapped; only its file is sent to the workers.
        rows: Which of them, in which order, [n]; at least one.
        transforms: Deterministic and fitted; called with chunks [m, L].

    Attributes:
        shape: Of the file's array, [n, points that the transforms leave].
        step: Scans a chunk.
        offset: Where the array begins in the file, in bytes; known once it is written.
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
        """Of all transformed scans."""
        return int(np.prod(self.shape)) * DTYPE.itemsize

    def __len__(self) -> int:
        """How many chunks there are."""
        return -(-len(self.rows) // self.step)

    def write(self, file: Path, workers: int, start: str | None = None) -> list[int]:
        """Write them all.

        Args:
            file: Made, or made anew, with all the room that it will take.
            workers: How many processes compute; 0 for this one.
            start: How processes are started, as ``multiprocessing`` calls it; None for its
                default.

        Returns:
            The CRC-32 of each chunk.

        Raises:
            OSError: The disk is full, say.
        """
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
            multiprocessing_context=start if workers else None,
            worker_init_fn=start_worker,
            generator=torch.Generator(),  # without one, torch's global stream would be drawn from
        )
        return list(chunks)

    def __getitem__(self, number: int) -> int:
        """Transform and write a chunk; returns its checksum."""
        first = number * self.step
        scans = self._transform(self.rows[first : first + self.step])
        if scans.shape[1] != self.shape[1]:
            raise ValueError(f"transforms leave {self.shape[1]} points first, then {scans.shape}")
        with open(self.file, "r+b") as opened:
            opened.seek(self.offset + first * self.shape[1] * DTYPE.itemsize)
            opened.write(scans.data)
        return zlib.crc32(scans.data)

    def _transform(self, rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.transforms(self.reader.read(rows)), dtype=DTYPE)

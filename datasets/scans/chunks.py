"""Scans read from a memory map in pieces, so that a cohort larger than memory passes through."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from datasets.scans.reader import ScanReader

# Large enough for sequential reads, small beside any machine's memory even as float64 copies.
CHUNK_BYTES = 32 * 2**20


def iterate_chunks(
    spectra: np.ndarray, rows: np.ndarray, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[np.ndarray]:
    """Read scans a chunk at a time, in the order of ``rows``.

    Args:
        spectra: [N_scans, L], usually memory-mapped.
        rows: Which scans, [n]; ascending rows are read fastest.
        chunk_bytes: About how much to hold at once.

    Yields:
        float32 [m, L], fresh copies; none where ``rows`` is empty.

    Example:
        >>> spectra = np.arange(6, dtype=np.float32).reshape(3, 2)
        >>> [chunk.tolist() for chunk in iterate_chunks(spectra, np.array([0, 2]), chunk_bytes=8)]
        [[[0.0, 1.0]], [[4.0, 5.0]]]
    """
    bytes_per_scan = spectra.shape[1] * np.dtype(np.float32).itemsize
    step = max(1, chunk_bytes // max(1, bytes_per_scan))
    reader = ScanReader(spectra)
    for start in range(0, len(rows), step):
        yield reader.read(rows[start : start + step])

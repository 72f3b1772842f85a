"""The cohort's two arrays on disk, checked: spectra stay memory-mapped, the axis is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from datasets.cohort.table import one_line, require_file
from datasets.errors import CohortError
from datasets.scans import ScanReader

# Spectra are checked in pieces of this size, so that a cohort larger than memory passes through.
CHECK_BYTES = 32 * 2**20


def _map_array(path: Path) -> np.memmap:
    """Memory-map an .npy file; never unpickles, never reads the data."""
    require_file(path)
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError, OverflowError, SyntaxError) as error:
        raise CohortError(
            f"{path} cannot be read as an .npy array of numbers: {one_line(error)}"
        ) from error


def read_axis(path: Path) -> np.ndarray:
    """Read the axis of the spectra (m/z, wavenumber, time).

    Args:
        path: An .npy file of L numbers.

    Returns:
        [L] in memory, float32 or float64 of this machine's byte order, strictly increasing.

    Raises:
        CohortError: The file is not such an axis.
    """
    mapped = _map_array(path)
    if mapped.ndim != 1 or mapped.dtype.kind not in "fiu" or not len(mapped):
        raise CohortError(
            f"{path} holds {mapped.dtype} {list(mapped.shape)}; float32 [L] was expected"
        )
    # Other types and byte orders reach no further: torch has no tensor of them.
    single = mapped.dtype.kind == "f" and mapped.dtype.itemsize <= np.dtype(np.float32).itemsize
    with np.errstate(over="ignore"):  # named below: a long double can exceed float64
        axis = np.array(mapped, dtype=np.float32 if single else np.float64)
    if not np.isfinite(axis).all():
        point = int(np.argmin(np.isfinite(axis)))
        raise CohortError(f"{path} holds {axis[point]} at point {point}; finite was expected")
    falls = ~(np.diff(axis) > 0)
    if falls.any():
        point = int(np.argmax(falls)) + 1
        hint = "; it falls throughout: reverse the axis and every spectrum" if falls.all() else ""
        raise CohortError(
            f"{path} is not strictly increasing: point {point} is {axis[point]:.10g} after "
            f"{axis[point - 1]:.10g}, as {axis.dtype}{hint}"
        )
    return axis


def open_spectra(path: Path, scans: int, points: int) -> np.memmap:
    """Memory-map the spectra and check their shape.

    Args:
        path: An .npy file of float32 [N_scans, L].
        scans: How many rows scans.csv has.
        points: Length of the axis, L.

    Returns:
        The read-only map; nothing is loaded.

    Raises:
        CohortError: The file is not such an array.
    """
    spectra = _map_array(path)
    if spectra.ndim != 2 or spectra.dtype != np.float32:
        mend = (
            "; write them again with numpy: spectra.astype('float32')"
            if spectra.ndim == 2 and spectra.dtype.kind in "fiu"
            else ""
        )
        raise CohortError(
            f"{path} holds {spectra.dtype} {list(spectra.shape)}; float32 [scans, points] was "
            f"expected{mend}"
        )
    if spectra.shape[1] != points:
        raise CohortError(
            f"{path} has spectra of {spectra.shape[1]} points, but axis.npy has {points}"
        )
    if spectra.shape[0] != scans:
        raise CohortError(f"{path} has {spectra.shape[0]} spectra, but scans.csv has {scans} rows")
    return spectra


def check_finite(
    spectra: np.ndarray,
    name_row: Callable[[int], str],
    also: Callable[[np.ndarray], None] | None = None,
) -> None:
    """Check that no intensity is NaN or infinite, a piece at a time.

    Args:
        spectra: float32 [N_scans, L].
        name_row: Says whose spectrum a row is, for the error line.
        also: Shown each piece [n, L] in turn, for what else takes a look at all of them.

    Raises:
        CohortError: Naming the first row, whose it is and the point.
    """
    rows = max(1, CHECK_BYTES // (spectra.itemsize * max(1, spectra.shape[1])))
    reader = ScanReader(spectra)
    for start in range(0, len(spectra), rows):
        piece = reader.read(np.arange(start, min(start + rows, len(spectra))))
        if also is not None:
            also(piece)
        finite = np.isfinite(piece)
        if not finite.all():
            inside, point = (int(index) for index in np.argwhere(~finite)[0])
            row = start + inside
            raise CohortError(
                f"spectra.npy, row {row} ({name_row(row)}): {spectra[row, point]} at point "
                f"{point}; finite intensities were expected"
            )

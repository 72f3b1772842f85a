"""scans.csv, spectra.npy and axis.npy, checked; spectra stay memory-mapped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.cohort.roles import SAMPLE_ID
from datasets.cohort.table import is_missing, one_line, require_file
from datasets.errors import CohortError, nearest
from datasets.scans import ScanReader

SCAN = "scan"
# Spectra are checked in pieces of this size, so that a cohort larger than memory passes through.
CHECK_BYTES = 32 * 2**20


def find_scan_rows(scans: pd.DataFrame, samples: pd.Index, where: str) -> list[np.ndarray]:
    """Each sample's rows, in the order of ``scan``: as numbers if all are, else as text.

    Names are compared as text: 1 and 01 are two scans, and large integers are exact. ``where``
    names the table in an error line.

    Returns:
        N arrays of row numbers, int64; empty where a sample has no scan.

    Raises:
        CohortError: A row is of no sample, has no scan number, or is repeated.
    """
    owner = _find_owners(scans[SAMPLE_ID].to_numpy(dtype=object), samples)
    unknown = owner < 0
    if unknown.any():
        name = scans[SAMPLE_ID].iloc[int(np.argmax(unknown))]
        raise CohortError(
            f"{where}: scan of unknown sample {name!r} ({int(unknown.sum())} such rows); samples "
            f"are named in samples.csv{nearest(name, samples)}"
        )
    missing = is_missing(scans[SCAN])
    if missing.any():
        raise CohortError(f"{where}: no scan number in row {int(np.argmax(missing)) + 1}")
    names = scans[SCAN]
    numbers = np.asarray(pd.to_numeric(names, errors="coerce"), dtype=np.float64)
    as_text = bool(np.isnan(numbers).any())
    if as_text:
        numbers = np.zeros(len(names))
    order = np.lexsort((numbers, owner)).astype(np.int64)
    same = _repeats(owner, numbers, order)
    if same.any():
        # Names that are one float64, such as 01 and 1 or large integers, differ as text.
        text = np.unique(names.to_numpy(dtype=str), return_inverse=True)[1]
        length = np.zeros(len(names)) if as_text else names.str.len()
        order = np.lexsort((text, length, numbers, owner)).astype(np.int64)
        same = _repeats(owner, text, order)
    if same.any():
        row = int(order[int(np.argmax(same)) + 1])
        raise CohortError(
            f"{where}: sample {scans[SAMPLE_ID].iloc[row]!r} has scan {scans[SCAN].iloc[row]!r} "
            "more than once"
        )
    ends = np.cumsum(np.bincount(owner, minlength=len(samples))).tolist()
    return [order[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _repeats(owner: np.ndarray, names: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Which rows repeat owner and name of the row before them in that order, bool [N - 1]."""
    same: np.ndarray = (np.diff(owner[order]) == 0) & (np.diff(names[order]) == 0)
    return same


def _find_owners(names: np.ndarray, samples: pd.Index) -> np.ndarray:
    """Sample of each row, int64 [N_scans], -1 where unknown; a run of rows is looked up once."""
    begins = np.ones(len(names), dtype=bool)
    begins[1:] = names[1:] != names[:-1]
    starts = np.flatnonzero(begins)
    found = samples.get_indexer(pd.Index(names[starts], dtype=object))
    return np.repeat(found, np.diff(np.append(starts, len(names)))).astype(np.int64)


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
    """Read an axis, [L], as float32 or float64 of this machine's byte order.

    Raises:
        CohortError: It is not finite and strictly increasing.
    """
    mapped = _map_array(path)
    if mapped.ndim != 1 or mapped.dtype.kind not in "fiu" or not len(mapped):
        raise CohortError(
            f"{path} holds {mapped.dtype} {list(mapped.shape)}; float32 [L] was expected"
        )
    # torch has no tensor of other types and byte orders.
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
    """Memory-map the spectra of ``scans`` rows and ``points`` points, read-only.

    Raises:
        CohortError: The file is no such float32 array.
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
    """Check that no intensity is NaN or infinite, a piece [n, L] at a time.

    ``name_row`` names the scan of a row; ``also`` is called with each piece.

    Raises:
        CohortError: Names the first row and point.
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

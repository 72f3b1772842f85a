"""Which rows of the spectra are whose: what scans.csv says, row by row."""

from __future__ import annotations

import numpy as np
import pandas as pd

from datasets.cohort.roles import SAMPLE_ID
from datasets.cohort.table import is_missing
from datasets.errors import CohortError, nearest

SCAN = "scan"


def find_scan_rows(scans: pd.DataFrame, samples: pd.Index, where: str) -> list[np.ndarray]:
    """Find each sample's rows, in the order of ``scan``: as numbers if all are, else as text.

    Two names are the same if their texts are: 1 and 01 are two scans, and large integers are exact.

    Args:
        scans: As text, with ``sample_id`` and ``scan``.
        samples: Names of the samples, each once, N of them.
        where: What the table is called in an error line.

    Returns:
        N arrays of row numbers, int64; one is empty where a sample has no scan.

    Raises:
        CohortError: A row is of no sample, has no scan number, or stands there twice.

    Example:
        >>> scans = pd.DataFrame({"sample_id": ["b", "a", "a"], "scan": ["1", "10", "9"]})
        >>> [rows.tolist() for rows in find_scan_rows(scans, pd.Index(["a", "b"]), "scans.csv")]
        [[2, 1], [0]]
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
    """Whose each row is, int64 [N_scans], -1 where unknown; a run of rows is looked up once."""
    begins = np.ones(len(names), dtype=bool)
    begins[1:] = names[1:] != names[:-1]
    starts = np.flatnonzero(begins)
    found = samples.get_indexer(pd.Index(names[starts], dtype=object))
    return np.repeat(found, np.diff(np.append(starts, len(names)))).astype(np.int64)

"""Which rows of the spectra are whose: what scans.csv says, row by row."""

from __future__ import annotations

import numpy as np
import pandas as pd

from datasets.errors import CohortError, nearest
from datasets.roles import SAMPLE_ID
from datasets.table import is_missing

SCAN = "scan"


def find_scan_rows(scans: pd.DataFrame, samples: pd.Index, where: str) -> list[np.ndarray]:
    """Find each sample's rows, in the order of ``scan``: as numbers if all are, else as text.

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
    numbers = np.asarray(pd.to_numeric(scans[SCAN], errors="coerce"), dtype=np.float64)
    order_key = numbers
    if np.isnan(numbers).any():
        as_text = np.unique(scans[SCAN].to_numpy(dtype=str), return_inverse=True)[1]
        order_key = as_text.astype(np.float64)
    order = np.lexsort((order_key, owner)).astype(np.int64)
    same = (np.diff(owner[order]) == 0) & (np.diff(order_key[order]) == 0)
    if same.any():
        row = int(order[int(np.argmax(same)) + 1])
        raise CohortError(
            f"{where}: sample {scans[SAMPLE_ID].iloc[row]!r} has scan {scans[SCAN].iloc[row]!r} "
            "more than once"
        )
    ends = np.cumsum(np.bincount(owner, minlength=len(samples))).tolist()
    return [order[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _find_owners(names: np.ndarray, samples: pd.Index) -> np.ndarray:
    """Whose each row is, int64 [N_scans], -1 where unknown; a run of rows is looked up once."""
    begins = np.ones(len(names), dtype=bool)
    begins[1:] = names[1:] != names[:-1]
    starts = np.flatnonzero(begins)
    found = samples.get_indexer(pd.Index(names[starts], dtype=object))
    return np.repeat(found, np.diff(np.append(starts, len(names)))).astype(np.int64)

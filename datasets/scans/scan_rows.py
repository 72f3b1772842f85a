"""Rows of the spectra by sample, and their runs of neighbouring rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class RaggedRows:
    """The rows of each sample's scans, in flat arrays, so that a batch's rows need no loop.

    Args:
        rows: int64, at least one for each sample.

    Attributes:
        flat: All rows, sample by sample, int64 [N_scans].
        counts: Number of scans of each sample, int64 [N].
        starts: Where each sample's rows start in ``flat``, int64 [N].

    Example:
        >>> rows = RaggedRows([np.array([7, 2]), np.array([9]), np.array([0, 4])])
        >>> rows.of(np.array([2, 0])).tolist()
        [0, 4, 7, 2]
        >>> rows.padded(np.array([1, 0]), most=3, filler=-1).tolist()
        [9, -1, -1, 7, 2, -1]
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
    """Runs of neighbouring rows that stay neighbours at their destination.

    Attributes:
        first: First row of each run, int64 [R].
        counts: Number of rows of each, int64 [R].
        places: Destination of its first row, int64 [R].
    """

    first: np.ndarray
    counts: np.ndarray
    places: np.ndarray


def find_runs(rows: np.ndarray) -> Runs:
    """The runs of rows, int64 [n]."""
    places = np.flatnonzero(np.diff(rows, prepend=rows[:1]) != 1)
    return Runs(rows[places], np.diff(places, append=len(rows)), places)


class SampleRuns:
    """The runs of each sample's rows, found once for all batches."""

    def __init__(self, rows: RaggedRows) -> None:
        begins = np.diff(rows.flat, prepend=rows.flat[:1]) != 1
        begins[rows.starts] = True  # a sample's neighbour may go elsewhere
        begin = np.flatnonzero(begins)
        self._first = rows.flat[begin]
        self._counts = np.diff(begin, append=len(rows.flat))
        # First run of each sample, and the number of its runs.
        self._from = np.searchsorted(begin, rows.starts)
        self._number = np.diff(self._from, append=len(begin))
        self._behind_start = begin - np.repeat(rows.starts, self._number)
        self._is_one_each = len(begin) == len(rows.starts)

    def of(self, samples: np.ndarray, places: np.ndarray) -> Runs:
        """The runs of samples [B], whose first rows go to ``places``, int64 [B]."""
        if self._is_one_each:
            return Runs(self._first[samples], self._counts[samples], places)
        number = self._number[samples]
        runs = count_up(self._from[samples], number)
        places = np.repeat(places, number) + self._behind_start[runs]
        return Runs(self._first[runs], self._counts[runs], places)

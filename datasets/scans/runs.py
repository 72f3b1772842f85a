"""Runs of neighbouring scans, each of which a file gives in one go."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from datasets.scans.ragged_rows import RaggedRows, count_up


class Runs(NamedTuple):
    """Neighbouring rows that are neighbours where they go, too.

    Attributes:
        first: The first row of each run, int64 [R].
        counts: How many rows each has, int64 [R].
        places: Where its first row goes, int64 [R].
    """

    first: np.ndarray
    counts: np.ndarray
    places: np.ndarray


def find_runs(rows: np.ndarray) -> Runs:
    """The runs of rows that go one behind the other.

    Args:
        rows: int64 [n].

    Example:
        >>> runs = find_runs(np.array([4, 5, 6, 2]))
        >>> runs.first.tolist(), runs.counts.tolist(), runs.places.tolist()
        ([4, 2], [3, 1], [0, 3])
    """
    places = np.flatnonzero(np.diff(rows, prepend=rows[:1]) != 1)
    return Runs(rows[places], np.diff(places, append=len(rows)), places)


class SampleRuns:
    """The runs of each sample's rows: found once, so that a batch has not to look for them.

    Args:
        rows: Of the samples.

    Example:
        >>> runs = SampleRuns(RaggedRows([np.array([7, 8, 2]), np.array([9])]))
        >>> runs.of(np.array([1, 0]), places=np.array([0, 10])).places.tolist()
        [0, 10, 12]
    """

    def __init__(self, rows: RaggedRows) -> None:
        begins = np.diff(rows.flat, prepend=rows.flat[:1]) != 1
        begins[rows.starts] = True  # a sample's neighbour may go elsewhere
        begin = np.flatnonzero(begins)
        self._first = rows.flat[begin]
        self._counts = np.diff(begin, append=len(rows.flat))
        # Which runs a sample has: so many, from this one on.
        self._from = np.searchsorted(begin, rows.starts)
        self._number = np.diff(self._from, append=len(begin))
        self._behind_start = begin - np.repeat(rows.starts, self._number)
        self._is_one_each = len(begin) == len(rows.starts)

    def of(self, samples: np.ndarray, places: np.ndarray) -> Runs:
        """The runs of some samples.

        Args:
            samples: Their indices, [B].
            places: Where each one's first row goes, int64 [B]; the others go behind it.
        """
        if self._is_one_each:
            return Runs(self._first[samples], self._counts[samples], places)
        number = self._number[samples]
        runs = count_up(self._from[samples], number)
        places = np.repeat(places, number) + self._behind_start[runs]
        return Runs(self._first[runs], self._counts[runs], places)

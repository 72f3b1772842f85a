"""The rows of many samples in one array: those of a batch are found without a loop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class RaggedRows:
    """For each sample, the rows of its scans.

    Args:
        rows: int64, at least one a sample.

    Attributes:
        flat: All rows, sample by sample, int64 [N_scans].
        counts: How many each sample has, int64 [N].
        starts: Where each sample's begin among all, int64 [N].

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
        """The rows of some samples, one sample's behind the other's.

        Args:
            samples: Their indices, [B].

        Returns:
            int64 [n].
        """
        return self.flat[count_up(self.starts[samples], self.counts[samples])]

    def padded(self, samples: np.ndarray, most: int, filler: int) -> np.ndarray:
        """The rows of some samples, equally many of each.

        Args:
            samples: Their indices, [B].
            most: How many; no sample has more.
            filler: What stands behind a sample's own.

        Returns:
            int64 [B x ``most``].
        """
        numbers = np.arange(most)
        rows = np.take(self.flat, self.starts[samples][:, None] + numbers, mode="clip")
        rows[numbers >= self.counts[samples][:, None]] = filler
        return rows.reshape(-1)


def count_up(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """From each start as many numbers as are asked for.

    Args:
        starts: int64 [n].
        counts: int64 [n].

    Example:
        >>> count_up(np.array([7, 0]), np.array([2, 3])).tolist()
        [7, 8, 0, 1, 2]
    """
    numbers = np.repeat(starts - (np.cumsum(counts) - counts), counts)
    numbers += np.arange(len(numbers))
    return numbers

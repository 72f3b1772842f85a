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

    Example:
        >>> rows = RaggedRows([np.array([7, 2]), np.array([9]), np.array([0, 4])])
        >>> found, ends = rows.of(np.array([2, 0]))
        >>> found.tolist(), ends.tolist()
        ([0, 4, 7, 2], [2, 4])
    """

    def __init__(self, rows: Sequence[np.ndarray]) -> None:
        self.flat = np.concatenate([*rows, np.zeros(0, dtype=np.int64)]).astype(np.int64)
        self.counts = np.array([len(own) for own in rows], dtype=np.int64)
        self._starts = np.cumsum(self.counts) - self.counts

    def of(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of some samples, one sample's behind the other's.

        Args:
            samples: Their indices, [B].

        Returns:
            Rows [n], and where each sample's end among them, [B].
        """
        counts = self.counts[samples]
        ends = np.cumsum(counts)
        places = np.repeat(self._starts[samples] - (ends - counts), counts)
        places += np.arange(len(places))
        return self.flat[places], ends

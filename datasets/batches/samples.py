"""One sample, and the samples of a batch, whose scans are read as the batch wants them to lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np

from datasets.scans import BUFFERS


class Sample(NamedTuple):
    """One sample.

    Attributes:
        spectra: float32 [S, L], at least one scan.
        tabular: float32 [D].
        target: A class number, or float [T] for regression and for several labels.
        sample_id: Whose it is.
    """

    spectra: np.ndarray
    tabular: np.ndarray
    target: int | np.ndarray
    sample_id: str


class LazyBatch(Sequence[Sample]):
    """The samples of a batch, whose scans are read in one go.

    They are read when they are first asked for: by a batch, straight to where it wants each, so
    that nothing is copied; or by who looks at a sample. A sample's scans are a piece of what was
    read.

    Args:
        read: Reads all scans into a fresh array. It is given None for one sample's behind the
            other's, [N, L]; or S for as many rows a sample, zero behind its own, [B x S, L].
        counts: How many scans each sample has, int64 [B].
        tabular: float32 [B, D].
        target: int64 [B], or float32 [B, T].
        sample_id: B names.

    Example:
        >>> both = LazyBatch.of([Sample(np.ones((1, 2)), np.zeros(1), 0, "a"),
        ...                         Sample(np.full((2, 2), 2), np.zeros(1), 1, "b")])
        >>> both.scans(most=2).tolist()
        [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0], [2.0, 2.0]]
        >>> both[1].spectra.tolist()
        [[2.0, 2.0], [2.0, 2.0]]
    """

    def __init__(
        self,
        read: Callable[[int | None], np.ndarray],
        counts: np.ndarray,
        tabular: np.ndarray,
        target: np.ndarray,
        sample_id: list[str],
    ) -> None:
        self.counts = counts
        self.tabular = tabular
        self.target = target
        self.sample_id = sample_id
        self._read = read
        self._scans: np.ndarray | None = None
        self._most: int | None = None  # how they lie
        self._samples: list[Sample] | None = None

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> LazyBatch:
        """Samples that were made one by one; as they are where they were read together."""
        if isinstance(samples, cls):
            return samples
        pieces = [sample.spectra for sample in samples]
        target = np.asarray([sample.target for sample in samples])
        return cls(
            lambda most: lay_out(pieces, most),
            np.array([len(piece) for piece in pieces]),
            np.array([sample.tabular for sample in samples], dtype=np.float32),
            target.astype(np.float32 if target.dtype.kind == "f" else np.int64),
            [sample.sample_id for sample in samples],
        )

    def scans(self, most: int | None = None) -> np.ndarray:
        """All scans; copied only where they were read before to lie otherwise.

        Args:
            most: S, at least the largest of ``counts``; None for no padding.

        Returns:
            float32 [N, L] without padding, otherwise [B x S, L].
        """
        if most is not None and most == self.counts.min():
            most = None  # there is nothing to pad: both are the same
        if self._scans is None:
            self._scans, self._most = self._read(most), most
        if self._most == most:
            return self._scans
        return lay_out(self._pieces(), most)

    def __len__(self) -> int:
        """B."""
        return len(self.sample_id)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        """A sample, or a list of some."""
        return self._each()[place]

    def __iter__(self) -> Iterator[Sample]:
        """Each sample."""
        return iter(self._each())

    def __reduce__(self) -> tuple[type[list[Sample]], tuple[list[Sample]]]:
        """Send the samples to another process, and not what reads them."""
        return list, (self._each(),)

    def _each(self) -> list[Sample]:
        if self._samples is None:
            parts = zip(self._pieces(), self.tabular, self.target, self.sample_id, strict=True)
            self._samples = [Sample(*part) for part in parts]
        return self._samples

    def _pieces(self) -> list[np.ndarray]:
        scans = self.scans() if self._scans is None else self._scans
        starts = first_rows(self.counts, self._most)
        ends = starts + self.counts
        bounds = zip(starts.tolist(), ends.tolist(), strict=True)
        return [scans[start:end] for start, end in bounds]


def first_rows(counts: np.ndarray, most: int | None = None) -> np.ndarray:
    """Where each sample's scans begin among those of a batch, int64 [B].

    Args:
        counts: How many scans each has, int64 [B].
        most: Rows a sample; None for one sample's behind the other's.
    """
    return np.cumsum(counts) - counts if most is None else np.arange(len(counts)) * most


def lay_out(pieces: Sequence[np.ndarray], most: int | None = None) -> np.ndarray:
    """Copy samples' scans to one array.

    Args:
        pieces: Of each sample, [S, L]; at least one sample.
        most: Rows a sample, zero behind its own; None for one sample's behind the other's.

    Returns:
        float32 [B x ``most``, L], or [N, L].
    """
    points = pieces[0].shape[1]
    if most is None:
        return np.concatenate(pieces, out=BUFFERS.empty(sum(map(len, pieces)), points))
    scans = BUFFERS.empty(len(pieces) * most, points)
    for start, piece in zip(range(0, len(scans), most), pieces, strict=True):
        scans[start : start + len(piece)] = piece
        scans[start + len(piece) : start + most] = 0
    return scans

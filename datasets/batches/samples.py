"""Samples, and batches of samples whose scans are read on demand."""

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
        sample_id: Its name.
    """

    spectra: np.ndarray
    tabular: np.ndarray
    target: int | np.ndarray
    sample_id: str


class LazyBatch(Sequence[Sample]):
    """The samples of a batch, whose scans are read together when first needed.

    A batch has them read straight to their destination, so that nothing is copied. The scans of a
    single sample are a view of what was read.

    Args:
        read: Reads all scans into a fresh array: concatenated, [N, L], given None; padded with
            zeros to S rows for each sample, [B x S, L], given S.
        counts: Number of scans of each sample, int64 [B].
        tabular: float32 [B, D].
        target: int64 [B], or float32 [B, T].
        sample_id: B names.
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
        self._most: int | None = None  # their layout
        self._samples: list[Sample] | None = None

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> LazyBatch:
        """From single samples; a batch that is lazy already is returned as it is."""
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
        """All scans, [N, L], or padded to ``most`` rows for each sample, [B x most, L]; float32."""
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
        """Send the samples to another process, without the reader."""
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
    """Where each sample's scans start, int64 [B], concatenated or padded to ``most`` rows each."""
    return np.cumsum(counts) - counts if most is None else np.arange(len(counts)) * most


def lay_out(pieces: Sequence[np.ndarray], most: int | None = None) -> np.ndarray:
    """Copy samples' scans, [S, L] each, to one array, concatenated or padded to ``most`` rows each.

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

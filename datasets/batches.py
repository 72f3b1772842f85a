"""Samples, and batches of them: padded, or packed until on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from datasets.scans import BUFFERS


class Sample(NamedTuple):
    """One sample: scans, float32 [S, L], at least one; covariates, float32 [D]; and its name.

    ``target`` is a class number, or float [T] for regression and for several labels. ``offset`` and
    ``fold`` are of :class:`Batch`, for one sample.
    """

    spectra: np.ndarray
    tabular: np.ndarray
    target: int | np.ndarray
    sample_id: str
    offset: np.ndarray | None = None
    fold: int | None = None


def _column(samples: Sequence[Sample], name: str) -> np.ndarray | None:
    """A field of each sample, or None where they have none."""
    if not samples or getattr(samples[0], name) is None:
        return None
    return np.array([getattr(sample, name) for sample in samples])


class LazyBatch(Sequence[Sample]):
    """The samples of a batch, whose scans are read together when first needed.

    A batch has them read straight to their destination, uncopied; a single sample's are a view.
    ``read`` reads all into a fresh array: concatenated, [N, L], given None; padded with zeros to S
    rows a sample, [B x S, L], given S. ``counts`` are scans, int64 [B]; ``tabular`` is float32 [B,
    D]; ``target`` int64 [B] or float32 [B, T].
    """

    def __init__(
        self,
        read: Callable[[int | None], np.ndarray],
        counts: np.ndarray,
        tabular: np.ndarray,
        target: np.ndarray,
        sample_id: list[str],
        offset: np.ndarray | None = None,
        fold: np.ndarray | None = None,
    ) -> None:
        self.counts = counts
        self.tabular = tabular
        self.target = target
        self.sample_id = sample_id
        self.offset = offset
        self.fold = fold
        self._read = read
        self._scans: np.ndarray | None = None
        self._most: int | None = None  # their layout

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
            _column(samples, "offset"),
            _column(samples, "fold"),
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
        return self._each[place]

    def __reduce__(self) -> tuple[type[list[Sample]], tuple[list[Sample]]]:
        """Send the samples to another process, without the reader."""
        return list, (self._each,)

    @cached_property
    def _each(self) -> list[Sample]:
        columns = [self._pieces(), self.tabular, self.target, self.sample_id]
        for optional in (self.offset, self.fold):
            columns.append(repeat(None, len(self)) if optional is None else optional)
        return [Sample(*part) for part in zip(*columns, strict=True)]

    def _pieces(self) -> list[np.ndarray]:
        scans = self.scans() if self._scans is None else self._scans
        starts = first_rows(self.counts, self._most)
        bounds = zip(starts.tolist(), (starts + self.counts).tolist(), strict=True)
        return [scans[start:end] for start, end in bounds]


def first_rows(counts: np.ndarray, most: int | None = None) -> np.ndarray:
    """Where each sample's scans start, int64 [B], concatenated or padded to ``most`` rows each."""
    return np.cumsum(counts) - counts if most is None else np.arange(len(counts)) * most


def lay_out(pieces: Sequence[np.ndarray], most: int | None = None) -> np.ndarray:
    """Copy samples' scans, [S, L] each, to one array, [N, L], or padded to [B x ``most``, L]."""
    points = pieces[0].shape[1]
    if most is None:
        return np.concatenate(pieces, out=BUFFERS.empty(sum(map(len, pieces)), points))
    scans = BUFFERS.empty(len(pieces) * most, points)
    for start, piece in zip(range(0, len(scans), most), pieces, strict=True):
        scans[start : start + len(piece)] = piece
        scans[start + len(piece) : start + most] = 0
    return scans


Parts = TypeVar("Parts", bound="_Parts")


class _Parts:
    """Base of batches, whose tensors move together."""

    __slots__: tuple[str, ...] = ()
    sample_id: list[str]

    def __len__(self) -> int:
        """B."""
        return len(self.sample_id)

    def pin_memory(self: Parts) -> Parts:
        """The same batch in page-locked memory."""
        return self._with_each(Tensor.pin_memory)

    def _with_each(self: Parts, change: Callable[[Tensor], Tensor]) -> Parts:
        def changed(part: Any) -> Any:
            if isinstance(part, Mapping):
                return {name: change(tensor) for name, tensor in part.items()}
            return change(part) if isinstance(part, Tensor) else part

        return type(self)(*(changed(getattr(self, name)) for name in self.__slots__))


@dataclass(slots=True)
class Batch(_Parts):
    """Samples, padded to the largest number of scans among them.

    ``spectra``, float32 [B, S, L], are zero where padded; ``mask``, bool [B, S], is True for a real
    scan, at least one a row; ``tabular`` is float32 [B, D], ``target`` long [B], or float32 [B, T]
    for regression and for several labels. ``scan_rows``, long [N], is the mask as an index into
    ``spectra.flatten(0, 1)``, which needs no synchronisation on a GPU, perhaps filled up with B x
    S; None where unknown. ``aux`` are further targets for the loss by name, each [B] or [B, T].
    ``offset``, float32 [B, C] or of several models [B, M, C], are logits of models that were not
    fitted to the sample; ``fold``, long [B], is the part of the training set that the sample is in,
    or -1, so that a model of several members may train some without it.
    """

    spectra: Tensor
    mask: Tensor
    tabular: Tensor
    target: Tensor
    sample_id: list[str]
    scan_rows: Tensor | None = None
    aux: Mapping[str, Tensor] | None = None
    offset: Tensor | None = None
    fold: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on a device; itself if its spectra are there, as its other tensors then are."""
        if self.spectra.device == device:
            return self
        return self._with_each(lambda part: part.to(device, non_blocking=non_blocking))


def pad_collate(
    samples: Sequence[Sample], pad_rows_to: int | None = None, pad_scans_to: int | None = None
) -> Batch:
    """Pad samples to one batch; ValueError where there is none, or one has no scan.

    ``scan_rows`` is filled up to a multiple of ``pad_rows_to``, S to one of ``pad_scans_to``, so
    that batches share a few shapes, as CUDA graphs and compiled code need.
    """
    together = LazyBatch.of(samples)
    mask = valid_scans(together, pad_scans_to)
    scans = together.scans(most=mask.shape[1])
    return Batch(
        spectra=torch.from_numpy(scans.reshape(*mask.shape, scans.shape[1])),
        mask=torch.from_numpy(mask),
        tabular=torch.from_numpy(together.tabular),
        target=torch.from_numpy(together.target),
        sample_id=together.sample_id,
        scan_rows=fill_rows(mask, pad_rows_to),
        offset=_as_tensor(together.offset),
        fold=_as_tensor(together.fold),
    )


def _as_tensor(array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)


def valid_scans(samples: LazyBatch, multiple: int | None = None) -> np.ndarray:
    """The mask of a batch, bool [B, S], where S is the next multiple."""
    if not samples:
        raise ValueError("a batch needs at least one sample")
    counts = samples.counts
    if counts.min() == 0:
        raise ValueError(f"sample {samples.sample_id[int(counts.argmin())]!r} has no scan")
    most = int(counts.max())
    most += -most % (multiple or 1)
    mask: np.ndarray = np.arange(most) < counts[:, None]
    return mask


def fill_rows(mask: np.ndarray, multiple: int | None = None) -> Tensor:
    """The mask as an index, long [N], filled up to a multiple by B x S, which is no row."""
    rows = np.flatnonzero(mask)
    missing = -len(rows) % (multiple or 1)
    return torch.from_numpy(np.append(rows, np.full(missing, mask.size)) if missing else rows)


@dataclass(slots=True)
class PackedBatch(_Parts):
    """Samples whose scans are concatenated, float32 [N, L]: no padding is sent, pinned or copied.

    :meth:`to` pads on the device, like :func:`pad_collate`; other fields as in :class:`Batch`.
    """

    scans: Tensor
    mask: Tensor
    tabular: Tensor
    target: Tensor
    sample_id: list[str]
    scan_rows: Tensor
    offset: Tensor | None = None
    fold: Tensor | None = None

    @property
    def spectra(self) -> Tensor:
        """The scans padded, float32 [B, S, L]; computed at each access."""
        samples, most = self.mask.shape
        count, points = self.scans.shape
        if count == samples * most:
            return self.scans.view(samples, most, points)
        padded = self.scans.new_zeros(samples * most, points)
        padded.index_copy_(0, self.scan_rows[:count], self.scans)
        return padded.view(samples, most, points)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy to a device, and pad there."""
        there = self._with_each(lambda part: part.to(device, non_blocking=non_blocking))
        return Batch(
            there.spectra,
            there.mask,
            there.tabular,
            there.target,
            there.sample_id,
            there.scan_rows,
            offset=there.offset,
            fold=there.fold,
        )


def packed_collate(
    samples: Sequence[Sample], pad_rows_to: int | None = None, pad_scans_to: int | None = None
) -> PackedBatch:
    """Concatenate samples to one batch without padding; see :func:`pad_collate`."""
    together = LazyBatch.of(samples)
    mask = valid_scans(together, pad_scans_to)
    return PackedBatch(
        scans=torch.from_numpy(together.scans()),
        mask=torch.from_numpy(mask),
        tabular=torch.from_numpy(together.tabular),
        target=torch.from_numpy(together.target),
        sample_id=together.sample_id,
        scan_rows=fill_rows(mask, pad_rows_to),
        offset=_as_tensor(together.offset),
        fold=_as_tensor(together.fold),
    )

"""Batches of samples with unequal numbers of scans: padded, or packed until on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datasets.batches.samples import LazyBatch, Sample


@dataclass(slots=True)
class Batch:
    """Samples, padded to the largest number of scans among them.

    Attributes:
        spectra: float32 [B, S, L], zero where padded.
        mask: bool [B, S], True for a real scan; every row has at least one.
        tabular: float32 [B, D].
        target: long [B], or float32 [B, T] for regression and for several labels.
        sample_id: B names.
        scan_rows: long [N], the rows of ``spectra.flatten(0, 1)`` that are real scans: the mask as
            an index, which needs no synchronisation on a GPU. It may be filled up with B x S
            (:func:`pad_collate`). None where unknown; set it to None when changing the mask.
        aux: Further targets for the loss by name, such as ``spec`` and ``tab`` for the auxiliary
            heads, each [B] or [B, T].
    """

    spectra: Tensor
    mask: Tensor
    tabular: Tensor
    target: Tensor
    sample_id: list[str]
    scan_rows: Tensor | None = None
    aux: Mapping[str, Tensor] | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.sample_id)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        return self._with_each(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory."""
        return self._with_each(lambda part: part.pin_memory())

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        rows, aux = self.scan_rows, self.aux
        return Batch(
            change(self.spectra),
            change(self.mask),
            change(self.tabular),
            change(self.target),
            self.sample_id,
            None if rows is None else change(rows),
            None if aux is None else {name: change(part) for name, part in aux.items()},
        )


def pad_collate(
    samples: Sequence[Sample], pad_rows_to: int | None = None, pad_scans_to: int | None = None
) -> Batch:
    """Pad samples to one batch.

    Args:
        samples: At least one, of the same L and D, each with at least one scan. A
            :class:`~datasets.batches.LazyBatch` is read straight into the batch.
        pad_rows_to: Fill ``scan_rows`` up to a multiple of this, so that batches share a few
            shapes, as CUDA graphs and compiled code need.
        pad_scans_to: Pad S up to a multiple of this, for the same reason.

    Raises:
        ValueError: There is no sample, or one has no scan.

    Example:
        >>> one = Sample(np.ones((1, 2), np.float32), np.zeros(1, np.float32), 0, "a")
        >>> two = Sample(np.ones((2, 2), np.float32), np.zeros(1, np.float32), 1, "b")
        >>> pad_collate([one, two]).mask
        tensor([[ True, False],
                [ True,  True]])
        >>> pad_collate([one, two], pad_rows_to=4).scan_rows
        tensor([0, 2, 3, 4])
        >>> pad_collate([one, two], pad_scans_to=4).spectra.shape
        torch.Size([2, 4, 2])
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
    )


def valid_scans(samples: LazyBatch, multiple: int | None = None) -> np.ndarray:
    """The mask of a batch, bool [B, S], where S is the next multiple.

    Raises:
        ValueError: There is no sample, or one has no scan.
    """
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
class PackedBatch:
    """Samples whose scans are concatenated, so that no padding is sent, pinned or copied.

    :meth:`to` pads on the device, to the values of :func:`~datasets.batches.pad_collate`.

    Attributes:
        scans: float32 [N, L], sample by sample.
        mask: bool [B, S], True for a real scan; N of them.
        tabular: float32 [B, D].
        target: long [B], or float32 [B, T] for regression and for several labels.
        sample_id: B names.
        scan_rows: long [N], the places of the scans among the B x S; perhaps filled up with B x S
            (:func:`packed_collate`).
    """

    scans: Tensor
    mask: Tensor
    tabular: Tensor
    target: Tensor
    sample_id: list[str]
    scan_rows: Tensor

    def __len__(self) -> int:
        """B."""
        return len(self.sample_id)

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
            there.spectra, there.mask, there.tabular, there.target, there.sample_id, there.scan_rows
        )

    def pin_memory(self) -> PackedBatch:
        """The same batch in page-locked memory."""
        return self._with_each(lambda part: part.pin_memory())

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> PackedBatch:
        return PackedBatch(
            change(self.scans),
            change(self.mask),
            change(self.tabular),
            change(self.target),
            self.sample_id,
            change(self.scan_rows),
        )


def packed_collate(
    samples: Sequence[Sample], pad_rows_to: int | None = None, pad_scans_to: int | None = None
) -> PackedBatch:
    """Concatenate samples to one batch without padding; see :func:`pad_collate`.

    Example:
        >>> import numpy as np
        >>> one = Sample(np.ones((1, 2), np.float32), np.zeros(1, np.float32), 0, "a")
        >>> two = Sample(np.ones((2, 2), np.float32), np.zeros(1, np.float32), 1, "b")
        >>> batch = packed_collate([one, two])
        >>> batch.scans.shape, batch.to("cpu").spectra.shape
        (torch.Size([3, 2]), torch.Size([2, 2, 2]))
    """
    together = LazyBatch.of(samples)
    mask = valid_scans(together, pad_scans_to)
    return PackedBatch(
        scans=torch.from_numpy(together.scans()),
        mask=torch.from_numpy(mask),
        tabular=torch.from_numpy(together.tabular),
        target=torch.from_numpy(together.target),
        sample_id=together.sample_id,
        scan_rows=fill_rows(mask, pad_rows_to),
    )

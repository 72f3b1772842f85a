"""What a model is given: samples with unequal numbers of scans, padded to one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets.scan_buffers import BUFFERS


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


class ReadTogether(list[Sample]):
    """Samples that were read in one go: their scans are pieces of one array.

    Args:
        samples: In the order of their scans.
        scans: float32 [N, L], all of them, one sample's behind the other's.
    """

    def __init__(self, samples: Iterable[Sample], scans: np.ndarray) -> None:
        super().__init__(samples)
        self.scans = scans
        self._pieces = [sample.spectra for sample in self]

    @property
    def is_whole(self) -> bool:
        """Whether the samples are still those that were read, in their order."""
        if len(self) != len(self._pieces):
            return False
        return all(
            sample.spectra is piece for sample, piece in zip(self, self._pieces, strict=True)
        )


@dataclass(slots=True)
class Batch:
    """Samples, padded to the largest number of scans among them.

    Attributes:
        spectra: float32 [B, S, L], zero where padded.
        mask: bool [B, S], True for a real scan; every row has at least one.
        tabular: float32 [B, D].
        target: long [B], or float32 [B, T] for regression and for several labels.
        sample_id: B names.
        scan_rows: long [N], the rows of ``spectra.flatten(0, 1)`` that are real scans: the mask
            as an index, which takes no waiting where the batch is on a GPU. Rows of B x S may
            fill it up (:func:`pad_collate`). None where unknown; who changes the mask sets it to
            None.
    """

    spectra: Tensor
    mask: Tensor
    tabular: Tensor
    target: Tensor
    sample_id: list[str]
    scan_rows: Tensor | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.sample_id)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device.

        Args:
            device: Where to.
            non_blocking: Do not wait for the copy; has an effect from pinned memory only.
        """
        return Batch(
            self.spectra.to(device, non_blocking=non_blocking),
            self.mask.to(device, non_blocking=non_blocking),
            self.tabular.to(device, non_blocking=non_blocking),
            self.target.to(device, non_blocking=non_blocking),
            self.sample_id,
            None
            if self.scan_rows is None
            else self.scan_rows.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; the loader calls this where it was asked to."""
        return Batch(
            self.spectra.pin_memory(),
            self.mask.pin_memory(),
            self.tabular.pin_memory(),
            self.target.pin_memory(),
            self.sample_id,
            None if self.scan_rows is None else self.scan_rows.pin_memory(),
        )


def pad_collate(samples: Sequence[Sample], pad_rows_to: int | None = None) -> Batch:
    """Pad samples to one batch.

    Args:
        samples: At least one, of the same L and D, each with at least one scan.
        pad_rows_to: Fill ``scan_rows`` up to a multiple of this, so that batches share a few
            shapes, as CUDA graphs and compiled code like it; None for no filling up.

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
    """
    mask = valid_scans(samples)
    return Batch(
        spectra=torch.from_numpy(_padded(samples, mask)),
        mask=torch.from_numpy(mask),
        tabular=stack_tabular(samples),
        target=stack_targets(samples),
        sample_id=[sample.sample_id for sample in samples],
        scan_rows=fill_rows(mask, pad_rows_to),
    )


def _padded(samples: Sequence[Sample], mask: np.ndarray) -> np.ndarray:
    """The scans, [B, S, L]."""
    shape = (*mask.shape, samples[0].spectra.shape[1])
    if mask.all():
        return joined_scans(samples).reshape(shape)
    spectra = BUFFERS.empty(*shape)
    for row, sample in zip(spectra, samples, strict=True):
        count = len(sample.spectra)
        row[:count] = sample.spectra
        row[count:] = 0
    return spectra


def joined_scans(samples: Sequence[Sample]) -> np.ndarray:
    """The scans one behind the other, float32 [N, L]; not copied where they were read so."""
    if isinstance(samples, ReadTogether) and samples.is_whole:
        return samples.scans
    parts = [sample.spectra for sample in samples]
    joined = BUFFERS.empty(sum(map(len, parts)), parts[0].shape[1])
    return np.concatenate(parts, out=joined)


def valid_scans(samples: Sequence[Sample]) -> np.ndarray:
    """The mask of a batch, bool [B, S].

    Raises:
        ValueError: There is no sample, or one has no scan.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample")
    counts = np.array([len(sample.spectra) for sample in samples])
    if counts.min() == 0:
        raise ValueError(f"sample {samples[int(counts.argmin())].sample_id!r} has no scan")
    mask: np.ndarray = np.arange(counts.max()) < counts[:, None]
    return mask


def fill_rows(mask: np.ndarray, multiple: int | None = None) -> Tensor:
    """The mask as an index, long [N], filled up to a multiple by B x S, which is no row."""
    rows = np.flatnonzero(mask)
    missing = -len(rows) % (multiple or 1)
    return torch.from_numpy(np.append(rows, np.full(missing, mask.size)) if missing else rows)


def stack_tabular(samples: Sequence[Sample]) -> Tensor:
    """Covariates, float32 [B, D]."""
    return torch.from_numpy(np.array([s.tabular for s in samples], dtype=np.float32))


def stack_targets(samples: Sequence[Sample]) -> Tensor:
    """Targets, long [B] or float32 [B, T]."""
    target = np.asarray([sample.target for sample in samples])
    return torch.from_numpy(target.astype(np.float32 if target.dtype.kind == "f" else np.int64))

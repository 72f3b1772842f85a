"""What a model is given: samples with unequal numbers of scans, padded to one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


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
            as an index, which takes no waiting where the batch is on a GPU. None where unknown;
            who changes the mask sets it to None.
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


def pad_collate(samples: Sequence[Sample]) -> Batch:
    """Pad samples to one batch.

    Args:
        samples: At least one, of the same L and D, each with at least one scan.

    Raises:
        ValueError: There is no sample, or one has no scan.

    Example:
        >>> one = Sample(np.ones((1, 2), np.float32), np.zeros(1, np.float32), 0, "a")
        >>> two = Sample(np.ones((2, 2), np.float32), np.zeros(1, np.float32), 1, "b")
        >>> pad_collate([one, two]).mask
        tensor([[ True, False],
                [ True,  True]])
    """
    if not samples:
        raise ValueError("a batch needs at least one sample")
    counts = np.array([len(sample.spectra) for sample in samples])
    if counts.min() == 0:
        raise ValueError(f"sample {samples[int(counts.argmin())].sample_id!r} has no scan")
    most = int(counts.max())
    spectra = np.zeros((len(samples), most, samples[0].spectra.shape[1]), dtype=np.float32)
    for row, sample in zip(spectra, samples, strict=True):
        row[: len(sample.spectra)] = sample.spectra
    mask = np.arange(most) < counts[:, None]
    target = np.asarray([sample.target for sample in samples])
    return Batch(
        spectra=torch.from_numpy(spectra),
        mask=torch.from_numpy(mask),
        tabular=torch.from_numpy(np.array([s.tabular for s in samples], dtype=np.float32)),
        target=torch.from_numpy(
            target.astype(np.float32 if target.dtype.kind == "f" else np.int64)
        ),
        sample_id=[sample.sample_id for sample in samples],
        scan_rows=torch.from_numpy(np.flatnonzero(mask)),
    )

"""Samples by index: scans gathered from the memory map, transformed, and augmented in training."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from datasets.augmentations import Augmentation
from datasets.batch import Sample
from datasets.errors import CohortError
from datasets.scan_chunks import iterate_chunks
from datasets.transforms import Transform

# Transformed scans are kept in memory up to this size a dataset; larger ones are transformed on
# each access. A training part of 250,000 scans of 2,048 points just fits.
CACHE_LIMIT_BYTES = 2 * 2**30


class SpectraDataset(Dataset[Sample]):
    """Samples of a cohort, or of one side of a split.

    A key is an index, or an (epoch, index) pair. The random numbers of a sample's augmentation
    depend on (seed, epoch, index) alone: not on the worker that makes it, nor on what came before.

    Args:
        spectra: float32 [N_scans, L], usually memory-mapped.
        scan_rows: For each sample, the rows of its scans; at least one.
        tabular: float32 [N, D].
        targets: Class numbers [N]; labels (0 or 1) [N, T]; or floating point [N] or [N, T] for
            regression.
        sample_ids: N names.
        transforms: Deterministic, and fitted before they come here; applied to scans [n, L].
        augmentations: Applied to each sample after the transforms, in this order.
        seed: At least 0.
        cache: Transform once and keep the result, where it is no larger than
            ``CACHE_LIMIT_BYTES``. What a sample holds is the same with and without.

    Raises:
        CohortError: A sample has no scan.
        ValueError: The parts do not belong together.

    Example:
        >>> spectra = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
        >>> rows = [np.array([0, 2]), np.array([1])]
        >>> dataset = SpectraDataset(spectra, rows, np.zeros((2, 1)), np.array([0, 1]), ["a", "b"])
        >>> dataset[0].spectra.tolist()
        [[1.0, 2.0], [5.0, 6.0]]
    """

    def __init__(
        self,
        spectra: np.ndarray,
        scan_rows: Sequence[np.ndarray],
        tabular: np.ndarray,
        targets: np.ndarray,
        sample_ids: Sequence[str],
        transforms: Transform | None = None,
        augmentations: Sequence[Augmentation] = (),
        seed: int = 0,
        cache: bool = True,
    ) -> None:
        lengths = {len(scan_rows), len(tabular), len(targets), len(sample_ids)}
        if len(lengths) > 1:
            raise ValueError(f"scans, covariates, targets and names differ in number: {lengths}")
        for rows, sample_id in zip(scan_rows, sample_ids, strict=True):
            if len(rows) == 0:
                raise CohortError(f"sample {sample_id!r} has no scan; at least one was expected")
        self.spectra = spectra
        self.scan_rows = [np.asarray(rows, dtype=np.int64) for rows in scan_rows]
        self.tabular = np.ascontiguousarray(tabular, dtype=np.float32)
        self.targets = _as_targets(np.asarray(targets))
        self.sample_ids = [str(sample_id) for sample_id in sample_ids]
        self.transforms = transforms
        self.augmentations = list(augmentations)
        self.seed = seed
        self._cached: np.ndarray | None = None
        self._rows = self.scan_rows
        used = np.unique(np.concatenate([*self.scan_rows, np.zeros(0, dtype=np.int64)]))
        if used.size and not 0 <= used[0] <= used[-1] < len(spectra):
            raise ValueError(f"scan rows {used[0]}..{used[-1]}, but there are {len(spectra)} scans")
        if cache and used.size * self.spec_len * np.dtype(np.float32).itemsize <= CACHE_LIMIT_BYTES:
            self._keep_transformed(used)

    @property
    def spec_len(self) -> int:
        """L, points a scan."""
        return int(self.spectra.shape[1])

    @property
    def tab_dim(self) -> int:
        """D, the width of the covariates."""
        return int(self.tabular.shape[1])

    def __len__(self) -> int:
        """N."""
        return len(self.sample_ids)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """One sample; see :meth:`__getitems__`."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | tuple[int, int]]) -> list[Sample]:
        """The samples of a batch, whose scans are read in one go.

        Args:
            keys: Indices, or (epoch, index) pairs; a bare index is of epoch 0.

        Raises:
            IndexError: There is no such sample.
        """
        pairs = [key if isinstance(key, tuple) else (0, key) for key in keys]
        numbers = range(len(self))
        indices = [numbers[index] for _, index in pairs]
        if not indices:
            return []
        rows = [self._rows[index] for index in indices]
        scans = self._read(np.concatenate(rows))
        ends = np.cumsum([len(part) for part in rows]).tolist()
        samples = []
        for (epoch, _), index, start, end in zip(
            pairs, indices, [0, *ends[:-1]], ends, strict=True
        ):
            own = scans[start:end]
            if self.augmentations:
                rng = np.random.default_rng((self.seed, epoch, index))
                for augment in self.augmentations:
                    own = augment(own, rng)
            samples.append(
                Sample(own, self.tabular[index], self.targets[index], self.sample_ids[index])
            )
        return samples

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """Transformed scans, [n, L]; a fresh array."""
        if self._cached is not None:
            return self._cached[rows]
        # The plain view spares the cost of NumPy's memmap subclass at each access.
        scans = np.ascontiguousarray(self.spectra.view(np.ndarray)[rows], dtype=np.float32)
        return scans if self.transforms is None else self.transforms(scans)

    def _keep_transformed(self, used: np.ndarray) -> None:
        """Transform the scans of these rows, ascending [n], once; rows then count within them."""
        kept = np.empty((len(used), self.spec_len), dtype=np.float32)
        start = 0
        for chunk in iterate_chunks(self.spectra, used):
            kept[start : start + len(chunk)] = (
                chunk if self.transforms is None else self.transforms(chunk)
            )
            start += len(chunk)
        self._cached = kept
        self._rows = [np.searchsorted(used, rows) for rows in self.scan_rows]

    def __getstate__(self) -> dict[str, Any]:
        """Name the mapped file instead of holding it, for workers that are not forked."""
        state = self.__dict__.copy()
        spectra = self.spectra
        # A view (of some rows, say) keeps its map's file name and offset, which are not its own.
        base: Any = spectra.base
        if isinstance(spectra, np.memmap) and isinstance(base, mmap.mmap):
            state["spectra"] = _MappedFile(
                str(spectra.filename),
                spectra.dtype.str,
                spectra.shape,
                int(spectra.offset),
                "F" if np.isfortran(spectra) else "C",
            )
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the named file again."""
        spectra = state["spectra"]
        if isinstance(spectra, _MappedFile):
            spectra = spectra.open()
        self.__dict__.update(state, spectra=spectra)


class _MappedFile(NamedTuple):
    """Where a memory map comes from."""

    filename: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    order: Literal["C", "F"]

    def open(self) -> np.memmap:
        return np.memmap(
            self.filename, self.dtype, "r", offset=self.offset, shape=self.shape, order=self.order
        )


def _as_targets(targets: np.ndarray) -> np.ndarray:
    """Class numbers as int64 [N]; labels, or values to regress, as float32 [N, T]."""
    if targets.dtype.kind != "f" and targets.ndim == 1:
        return targets.astype(np.int64)
    return targets.astype(np.float32).reshape(len(targets), -1 if targets.size else 1)

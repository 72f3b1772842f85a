"""Samples by index: scans gathered from the memory map, transformed, and augmented in training."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch.utils.data import Dataset

from datasets.augmentations import Augmentation, PairAugmentation
from datasets.batches import LazyBatch, Sample, first_rows, lay_out
from datasets.errors import CohortError, UsageError
from datasets.loading.samplers import Key
from datasets.scans import BUFFERS, RaggedRows, ScanReader, count_up, find_runs, iterate_chunks
from datasets.transforms import Transform

# Transformed scans are kept in memory up to this size: 130,000 scans of 2,048 points.
CACHE_LIMIT_BYTES = 2**30
# Fourth word of a seed, after (seed, epoch, index), and NumPy's default for it; the order of an
# epoch has another one (ORDER_STREAM).
AUGMENTATION_STREAM = 0
# Of which mean scans are computed together, so that few scans are in memory.
SAMPLES_PER_READ = 256


class SameTarget:
    """Draws, for a sample, another one of the same class [N] or set of labels [N, T]."""

    def __init__(self, targets: np.ndarray) -> None:
        if targets.dtype.kind == "f":
            raise UsageError(
                "augmentation mixup mixes samples of one class; values to regress have no classes: "
                "leave it out"
            )
        _, kind = np.unique(targets, axis=0, return_inverse=True)
        self._kind = kind.reshape(-1)
        order = np.argsort(self._kind, kind="stable")
        self._members = np.split(order, np.cumsum(np.bincount(self._kind))[:-1])  # each ascending

    def draw(self, index: int, rng: np.random.Generator) -> int | None:
        """Another sample of the same target; None where there is none."""
        members = self._members[self._kind[index]]
        if len(members) < 2:
            return None
        step = rng.integers(1, len(members))
        return int(members[(np.searchsorted(members, index) + step) % len(members)])


class SpectraDataset(Dataset[Sample]):
    """Samples of a cohort, or of one subset of a split.

    ``spectra`` are float32 [N_scans, L], usually memory-mapped; ``scan_rows`` each sample's rows of
    them, at least one, or a CohortError; ``tabular`` is float32 [N, D]; ``targets`` are class
    numbers [N], labels (0 or 1) [N, T], or floating point [N] or [N, T] for regression.
    ``transforms`` are deterministic and fitted; ``augmentations`` follow them, in their order, and
    those that need a second sample are given one of the same target, without augmentation. Their
    random numbers depend on (seed, epoch, index) alone, not on the worker.

    With ``cache``, scans are transformed once and kept in memory where they are no larger than
    ``cache_limit`` bytes (None for ``CACHE_LIMIT_BYTES``); the samples are the same.
    """

    def __init__(
        self,
        spectra: np.ndarray,
        scan_rows: Sequence[np.ndarray],
        tabular: np.ndarray,
        targets: np.ndarray,
        sample_ids: Sequence[str],
        transforms: Transform | None = None,
        augmentations: Sequence[Augmentation | PairAugmentation] = (),
        seed: int = 0,
        cache: bool = True,
        cache_limit: int | None = None,
    ) -> None:
        lengths = {len(scan_rows), len(tabular), len(targets), len(sample_ids)}
        if len(lengths) > 1:
            raise ValueError(f"scans, covariates, targets and names differ in number: {lengths}")
        for rows, sample_id in zip(scan_rows, sample_ids, strict=True):
            if len(rows) == 0:
                raise CohortError(f"sample {sample_id!r} has no scan; at least one was expected")
        self._reader = ScanReader(spectra)
        self.scan_rows = [np.asarray(rows, dtype=np.int64) for rows in scan_rows]
        self.tabular = np.ascontiguousarray(tabular, dtype=np.float32)
        targets = np.asarray(targets)
        if targets.dtype.kind != "f" and targets.ndim == 1:
            self.targets: np.ndarray = targets.astype(np.int64)
        else:
            columns = -1 if targets.size else 1
            self.targets = targets.astype(np.float32).reshape(len(targets), columns)
        pairs = any(isinstance(augment, PairAugmentation) for augment in augmentations)
        self._same_target = SameTarget(targets) if pairs else None
        self.sample_ids = [str(sample_id) for sample_id in sample_ids]
        self.transforms = transforms
        self.augmentations = list(augmentations)
        self.seed = seed
        # Of each sample; see Batch.
        self.offset: np.ndarray | None = None
        self.fold: np.ndarray | None = None
        self._cached: np.ndarray | None = None
        self._rows = RaggedRows(self.scan_rows)
        used = np.unique(self._rows.flat)
        if used.size and not 0 <= used[0] <= used[-1] < len(spectra):
            raise ValueError(f"scan rows {used[0]}..{used[-1]}, but there are {len(spectra)} scans")
        limit = CACHE_LIMIT_BYTES if cache_limit is None else cache_limit
        if cache and used.size * self.spec_len * np.dtype(np.float32).itemsize <= limit:
            self._keep_transformed(used)

    @property
    def spectra(self) -> np.ndarray:
        """The given spectra, [N_scans, L]."""
        return self._reader.spectra

    @property
    def spec_len(self) -> int:
        """L, number of points after the transforms."""
        left = getattr(self.transforms, "spec_len", None)
        return int(self.spectra.shape[1] if left is None else left)

    @property
    def tab_dim(self) -> int:
        """D, the width of the covariates."""
        return int(self.tabular.shape[1])

    @property
    def scan_counts(self) -> np.ndarray:
        """Number of scans of each sample, before any augmentation, [N]."""
        return self._rows.counts

    def __len__(self) -> int:
        """N."""
        return len(self.sample_ids)

    def __getitem__(self, key: int | Key) -> Sample:
        """One sample; see :meth:`__getitems__`."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Key]) -> Sequence[Sample]:
        """The samples of a batch, whose scans are read together; IndexError where there is none.

        Keys are indices (of epoch 0), (epoch, index), or (epoch, index, copy) of a repeated sample.
        """
        indices = [key[1] if isinstance(key, tuple) else key for key in keys]
        if not indices:
            return []
        samples = self._samples(indices)
        if not self.augmentations:
            return samples
        whole = [key if isinstance(key, tuple) else (0, key) for key in keys]
        return [self._augment(*both) for both in zip(samples, whole, strict=True)]

    def mean_scans(self, samples: np.ndarray | None = None) -> np.ndarray:
        """The mean transformed scan, not augmented, of samples [n], or of all; float32 [n, L]."""
        chosen = np.arange(len(self)) if samples is None else samples
        means = np.empty((len(chosen), self.spec_len), dtype=np.float32)
        for start in range(0, len(chosen), SAMPLES_PER_READ):
            part = chosen[start : start + SAMPLES_PER_READ]
            counts = self._rows.counts[part]
            sums = np.add.reduceat(self._read(part, None), first_rows(counts), axis=0)
            means[start : start + len(part)] = sums / counts[:, None]
        return means

    def _samples(self, indices: list[int]) -> LazyBatch:
        places = np.array(indices)
        return LazyBatch(
            partial(self._read, places),
            self._rows.counts[places],
            self.tabular[places],
            self.targets[places],
            [self.sample_ids[index] for index in indices],
            None if self.offset is None else self.offset[places],
            None if self.fold is None else self.fold[places],
        )

    def _augment(self, sample: Sample, key: Key) -> Sample:
        epoch, index, *copy = key
        index %= len(self)  # negative indices count from the end
        words: tuple[int, ...] = (self.seed, epoch, index)
        if copy:
            words = (*words, AUGMENTATION_STREAM, *copy)
        rng = np.random.default_rng(words)
        for augment in self.augmentations:
            if not isinstance(augment, PairAugmentation):
                sample = sample._replace(spectra=augment(sample.spectra, rng))
                continue
            assert self._same_target is not None
            other = self._same_target.draw(index, rng)
            if other is not None:
                sample = augment.mix(sample, self._samples([other])[0], rng)
        return sample

    def _read(self, samples: np.ndarray, most: int | None) -> np.ndarray:
        """Transformed scans of samples [B], as ``LazyBatch`` reads them; a fresh array."""
        if self._cached is not None:
            rows, blank = self._rows, len(self._cached) - 1
            taken = rows.of(samples) if most is None else rows.padded(samples, most, blank)
            # Rows are valid; "clip" saves the copy of a check.
            scans = BUFFERS.empty(len(taken), self._cached.shape[1])
            return np.take(self._cached, taken, axis=0, out=scans, mode="clip")
        if self.transforms is None:
            return self._read_as_given(samples, most)
        scans = self.transforms(self._read_as_given(samples))
        if most is None:
            return scans
        return lay_out(np.split(scans, np.cumsum(self._rows.counts[samples])[:-1]), most)

    def _read_as_given(self, samples: np.ndarray, most: int | None = None) -> np.ndarray:
        rows, counts = self._rows.of(samples), self._rows.counts[samples]
        if most is None:
            return self._reader.read(rows)
        scans = BUFFERS.empty(len(samples) * most, self.spectra.shape[1])
        places = count_up(first_rows(counts, most), counts)
        self._reader.read_runs(find_runs(rows, places), scans)
        scans[(np.arange(most) >= counts[:, None]).reshape(-1)] = 0
        return scans

    def _keep_transformed(self, used: np.ndarray) -> None:
        """Transform the scans of these rows, ascending [n], once; rows then refer to them."""
        # One blank row more, to pad batches with.
        kept = np.zeros((len(used) + 1, self.spec_len), dtype=np.float32)
        start = 0
        for chunk in iterate_chunks(self.spectra, used):
            transformed = chunk if self.transforms is None else self.transforms(chunk)
            kept[start : start + len(chunk)] = transformed
            start += len(chunk)
        self._cached = kept
        self._rows.flat = np.searchsorted(used, self._rows.flat)

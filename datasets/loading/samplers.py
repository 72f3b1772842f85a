"""Batch samplers: equal numbers of samples, or samples of similar numbers of scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from datasets.errors import UsageError
from datasets.loading.planned_sampler import (
    PlannedBatchSampler,
    digest,
    make_draw,
    shuffle_steps,
    split_largest,
)
from datasets.specs import require_number, require_whole

# Samples mix with those of up to this part more scans: at most this part of a batch is padded, and
# samples of 10 scans and fewer mix with their equals only.
SPREAD = 0.1


class EpochBatchSampler(PlannedBatchSampler):
    """Batches of equal numbers of samples, in an order that depends on (seed, epoch) alone.

    With ``drop_last=False`` the last batch holds the remaining samples, perhaps a single one; a
    model with batch normalisation cannot train on that: use ``drop_last``, or another batch size.

    Args:
        n_or_indices: Number of samples, or the indices of those to draw from.
        batch_size: B.
        shuffle: A new order in each epoch; otherwise always the given one.
        seed: At least 0.
        drop_last: Leave out a last batch that is not full and, of several even processes, the last
            batches that not all of them would get.
        strata: The class or the group of each sample, [n]: each is drawn equally often in an epoch
            (:class:`~datasets.loading.planned_sampler.BalancedDraw`).
        rank: From 0.
        world_size: Number of processes.
        even: Give each process the same number of batches; False in evaluation.
        lengths: Number of scans of each sample, by its index. Processes that train together on
            shuffled batches then take those with similar numbers of scans at the same time, so that
            none waits long for another; the batches are the same.

    Raises:
        UsageError: No batch can be made of so many samples.

    Example:
        >>> sampler = EpochBatchSampler(5, batch_size=2, shuffle=False, seed=0)
        >>> list(sampler)
        [[(1, 0), (1, 1)], [(1, 2), (1, 3)], [(1, 4)]]
        >>> sampler.resume_at(epoch=2, position=2)
        >>> list(sampler)
        [[(2, 4)]]
    """

    def __init__(
        self,
        n_or_indices: int | Sequence[int] | np.ndarray,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool = False,
        strata: Sequence[Any] | np.ndarray | None = None,
        rank: int = 0,
        world_size: int = 1,
        even: bool = True,
        lengths: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        batch_size = require_whole("batch_size", batch_size, 1)
        self.indices = (
            np.arange(n_or_indices) if isinstance(n_or_indices, int) else np.array(n_or_indices)
        )
        samples = len(self.indices)
        if samples == 0:
            raise UsageError("there is no sample to make batches of")
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self._draw = make_draw(strata, samples, shuffle)
        self._strata_digest = None if self._draw is None else digest(self._draw.numbers)
        whole, rest = divmod(samples, batch_size)
        if drop_last and even:
            whole -= whole % require_whole("world_size", world_size, 1)
        super().__init__(
            whole + (rest > 0 and not drop_last), samples, seed, rank, world_size, even
        )
        if self.count == 0:
            raise UsageError(
                f"batch_size {batch_size} with drop_last leaves no batch of {samples} samples"
                f"{'' if world_size == 1 else f' to each of {world_size} processes'}; a smaller "
                "one was expected"
            )
        # Lengths that do not affect the plan are not part of its identity.
        balanced = lengths is not None and shuffle and even and world_size > 1
        self._lengths = np.asarray(lengths, dtype=np.int64) if balanced else None

    def order(self, epoch: int) -> np.ndarray:
        """The order of the samples in an epoch, [n]."""
        return self._order(self._rng(epoch)) if self.shuffle else self.indices

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        drawn = self.indices if self._draw is None else self.indices[self._draw(rng)]
        return rng.permutation(drawn)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """All processes' batches of an epoch, as indices of samples."""
        rng = self._rng(epoch)
        order = self._order(rng) if self.shuffle else self.indices
        starts = range(0, len(order), self.batch_size)
        batches = [order[start : start + self.batch_size] for start in starts]
        batches = split_largest(batches[: self.count], self.count)
        if self._lengths is None:
            return batches
        scans = np.array([self._lengths[batch].sum() for batch in batches])
        by_scans = [batches[number] for number in np.argsort(scans, kind="stable")]
        return shuffle_steps(by_scans, self.world_size, rng)

    def _identity(self) -> dict[str, Any]:
        return {
            "n": len(self.indices),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            "strata": self._strata_digest,
            "lengths": None if self._lengths is None else digest(self._lengths),
        }


class BucketBatchSampler(PlannedBatchSampler):
    """Batches of samples with similar numbers of scans, so that little is padded.

    In a bucket the longest sample has at most ``1 + spread`` times the scans of the shortest. An
    epoch's samples, shuffled within their bucket, are lined up from the longest bucket to the
    shortest and cut into batches, which are shuffled. All of it depends on (seed, epoch) alone.

    The number of batches is the same in each epoch: each sample counts as long as the longest of
    its bucket, so that the line is always cut at the same places. With ``strata`` epochs hold
    different samples: all are given as many batches as the longest possible epoch needs, those with
    fewer by halving their largest batches.

    Where the number of scans is related to the target, batches are less mixed than those of
    :class:`~datasets.loading.EpochBatchSampler`, which is why that one is the default.

    Args:
        lengths: Number of scans of each sample, [n].
        batch_size: Most samples in a batch. The last two batches share the remaining samples.
        shuffle: A new order in each epoch; otherwise from the most scans to the fewest.
        seed: At least 0.
        max_scans: Most scans in a batch, padding included: B x S; None for any number.
        spread: How much longer than the shortest of a bucket the longest may be.
        strata: The class or the group of each sample, [n]: each is drawn equally often in an epoch
            (:class:`~datasets.loading.planned_sampler.BalancedDraw`).
        rank: From 0.
        world_size: Number of processes; those that train together are given neighbouring batches,
            which take about as long.
        even: Give each process the same number of batches; False in evaluation.

    Raises:
        UsageError: No batch can be made, or a sample alone has more scans than a batch may have.

    Example:
        >>> lengths = [1, 5, 1, 5, 1]
        >>> sampler = BucketBatchSampler(lengths, batch_size=4, shuffle=False, seed=0, max_scans=10)
        >>> list(sampler)
        [[(1, 1), (1, 3)], [(1, 0), (1, 2), (1, 4)]]
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        shuffle: bool,
        seed: int,
        max_scans: int | None = None,
        spread: float = SPREAD,
        strata: Sequence[Any] | np.ndarray | None = None,
        rank: int = 0,
        world_size: int = 1,
        even: bool = True,
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        samples = len(self.lengths)
        if samples == 0:
            raise UsageError("there is no sample to make batches of")
        if self.lengths.min() < 1:
            raise ValueError(f"sample {int(self.lengths.argmin())} has no scan")
        self.batch_size = require_whole("batch_size", batch_size, 1)
        self.shuffle = shuffle
        self.max_scans = None if max_scans is None else require_whole("max_scans", max_scans, 1)
        self.spread = require_number("spread", spread)
        if self.max_scans is not None and self.lengths.max() > self.max_scans:
            raise UsageError(
                f"a batch may have {self.max_scans} scans, but one sample has "
                f"{self.lengths.max()}; a larger budget was expected"
            )
        self.counted = _longest_of_bucket(self.lengths, self.spread)
        if self.max_scans is not None:
            # A bucket must not make a sample longer than max_scans.
            self.counted = np.minimum(self.counted, self.max_scans)
        self._draw = make_draw(strata, samples, shuffle, self.counted)
        self._strata_digest = None if self._draw is None else digest(self._draw.numbers)
        line = np.sort(self.counted)[::-1] if self._draw is None else self._draw.largest()
        super().__init__(len(self._cut(line)), samples, seed, rank, world_size, even)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """All processes' batches of an epoch, as indices of samples."""
        if not self.shuffle:
            return self._batches_of(np.argsort(-self.lengths, kind="stable"))
        rng = self._rng(epoch)
        drawn = np.arange(len(self.lengths)) if self._draw is None else self._draw(rng)
        line = drawn[np.lexsort((rng.random(len(drawn)), -self.counted[drawn]))]
        batches = self._batches_of(line)
        # Batches that the processes take at the same time stay together.
        return shuffle_steps(batches, self.world_size if self.even else 1, rng)

    def _batches_of(self, line: np.ndarray) -> list[np.ndarray]:
        ends = self._cut(self.counted[line])
        return split_largest(np.split(line, ends[:-1]), self.count)

    def _cut(self, counted: np.ndarray) -> list[int]:
        """Ends of the fewest possible batches in a line of falling numbers of scans, [n]."""
        ends = [0]
        while ends[-1] < len(counted):
            most = self.batch_size
            if self.max_scans is not None:
                most = min(most, self.max_scans // int(counted[ends[-1]]))
            ends.append(min(ends[-1] + most, len(counted)))
        if len(ends) > 2:
            start, last = ends[-3], ends[-2]
            # Half of both is at most the size of the previous batches.
            if len(counted) - last < last - start:
                ends[-2] = start + (len(counted) - start + 1) // 2
        return ends[1:]

    def _identity(self) -> dict[str, Any]:
        return {
            "lengths": digest(self.lengths),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "max_scans": self.max_scans,
            "spread": self.spread,
            "strata": self._strata_digest,
        }


def _longest_of_bucket(lengths: np.ndarray, spread: float) -> np.ndarray:
    """The largest length of each sample's bucket, [n]."""
    distinct, inverse = np.unique(lengths, return_inverse=True)
    longest = np.empty_like(distinct)
    start = 0
    while start < len(distinct):
        end = int(np.searchsorted(distinct, distinct[start] * (1 + spread), side="right"))
        longest[start:end] = distinct[end - 1]
        start = end
    return longest[inverse.reshape(-1)]

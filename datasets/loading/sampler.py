"""Batches of as many samples each: known from the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from datasets.errors import UsageError
from datasets.loading.balanced_draw import make_draw
from datasets.loading.planned_sampler import (
    PlannedBatchSampler,
    digest,
    shuffle_steps,
    split_largest,
)
from datasets.specs import require_whole


class EpochBatchSampler(PlannedBatchSampler):
    """Batches of as many samples each, in an order that depends on (seed, epoch) alone.

    With ``drop_last=False`` the last batch of an epoch holds what is left over, which may be a
    single sample; a model with batch normalisation cannot train on that: use ``drop_last``, or
    another batch size.

    Args:
        n_or_indices: How many samples there are, or the indices of those to draw from.
        batch_size: B.
        shuffle: A new order in each epoch; otherwise always the given one.
        seed: At least 0.
        drop_last: Leave out a last batch that is not full and, of several even processes, the last
            batches that not all of them would get.
        strata: The class or the group of each sample, [n]: each is drawn equally often in an epoch
            of as many samples (:class:`~datasets.loading.balanced_draw.BalancedDraw`).
        rank: Which of the processes this one is, from 0.
        world_size: How many processes there are.
        even: Give each process the same number of batches; False in evaluation.
        lengths: The number of scans of each sample, by its index. Processes that train together
            on shuffled batches then take those at the same time that hold about as many scans, so
            that none waits long for another; the batches are the same.

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
        self._kinds_digest = None if self._draw is None else digest(self._draw.numbers)
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
        # What has no part in the plan has none in its identity.
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
            "strata": self._kinds_digest,
            "lengths": None if self._lengths is None else digest(self._lengths),
        }

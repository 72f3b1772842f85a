"""Batch samplers: a plan for each epoch, resumable, shared by processes."""

import heapq
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from datasets.errors import UsageError
from datasets.specs import require_number, require_whole

# NumPy pads a seed's words with zeros: (seed, epoch) alone would be the stream that augments sample
# 0 of that epoch; a fourth word distinguishes the two.
ORDER_STREAM = 1
# Samples mix with those of up to this part more scans: at most this part of a batch is padded, and
# samples of 10 scans and fewer mix with their equals only.
SPREAD = 0.1

# (epoch, index), or (epoch, index, copy) of a repeated sample: 1, 2, ...
Key = tuple[int, ...]


class BalancedDraw:
    """Draws as many samples as there are, the same number from each of ``strata``, [n].

    Of n samples of K strata each stratum gives n // K or one more, and within it no sample is taken
    twice before all are taken once, and so on. Those that are taken once more (or, of a large
    stratum, at all) are drawn anew each epoch with equal chances, evenly along their ``sizes``, [n]
    (systematic sampling, Madow and Madow 1944, Annals of Mathematical Statistics 15, 1-24).
    """

    def __init__(self, strata: Sequence[Any] | np.ndarray, sizes: np.ndarray | None = None) -> None:
        if len(strata) == 0:
            raise UsageError("there is no sample to draw from")
        numbers = np.unique(np.asarray(strata), return_inverse=True)[1]
        self.numbers = numbers.reshape(-1).astype(np.int64)
        self.sizes = np.zeros(len(numbers), np.int64) if sizes is None else np.asarray(sizes)
        self._members = [np.flatnonzero(self.numbers == kind) for kind in range(numbers.max() + 1)]

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """Indices of an epoch's samples, [n], by stratum; repeated samples are repeated."""
        fewest, more = divmod(len(self.numbers), len(self._members))
        counts = np.full(len(self._members), fewest)
        counts[rng.permutation(len(counts))[:more]] += 1
        drawn = []
        for members, count in zip(self._members, counts.tolist(), strict=True):
            in_order = members[np.lexsort((rng.random(len(members)), self.sizes[members]))]
            drawn.append(in_order[_evenly(len(members), count, int(rng.integers(len(members))))])
        return np.concatenate(drawn)

    def largest(self) -> np.ndarray:
        """Sizes that no draw exceeds, [n], falling: a draw's third largest is at most the third."""
        count = -(-len(self.numbers) // len(self._members))
        sizes = [
            np.sort(self.sizes[members])[_evenly(len(members), count, len(members) - 1)]
            for members in self._members
        ]
        return np.sort(np.concatenate(sizes))[::-1][: len(self.numbers)]


def make_draw(
    strata: Sequence[Any] | np.ndarray | None,
    samples: int,
    shuffle: bool,
    sizes: np.ndarray | None = None,
) -> BalancedDraw | None:
    """The draw of a sampler; None without ``strata``. ValueError where they do not fit."""
    if strata is None:
        return None
    if len(strata) != samples:
        raise ValueError(f"strata of {len(strata)} samples, but there are {samples}")
    if not shuffle:
        raise ValueError("strata are drawn anew in each epoch: that needs shuffle")
    return BalancedDraw(strata, sizes)


def _evenly(members: int, count: int, start: int) -> np.ndarray:
    """``count`` of ``members`` places, evenly spaced, with equal chances for ``start`` below it.

    Place j covers [j * count, (j + 1) * count); a pick falls every ``members`` from ``start`` on.
    """
    places: np.ndarray = (start + np.arange(count) * members) // count
    return places


class PlannedBatchSampler(Sampler[list[Key]], ABC):
    """Batches of keys whose plan for a whole epoch is known before its first batch.

    With workers, a loader asks for batches ahead of the training, so that only the trainer knows
    how many are done; it gives that number to :meth:`resume_at`.

    Each of ``world_size`` processes takes every ``world_size``-th of an epoch's batches, from
    ``rank`` on. Those that train in step need the same number of batches: with ``even`` the largest
    are halved until the number can be shared, and no sample is left out or repeated. Without it, as
    for evaluation, the processes may have unequal numbers.

    ``epoch``, 1-based, is that of the next iteration, which skips ``position`` of its batches;
    ``count`` is the number of batches of all processes together, evened out.
    """

    def __init__(
        self,
        count: int,
        samples: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        even: bool = True,
    ) -> None:
        self.seed = require_whole("seed", seed)
        self.world_size = require_whole("world_size", world_size, 1)
        self.rank = require_whole("rank", rank, 0, world_size - 1)
        self.even = even
        self.epoch, self.position = 1, 0
        # What the plan depends on, in plain types; subclasses add to it.
        own = ("seed", "world_size", "even")
        self._identity: dict[str, Any] = {name: getattr(self, name) for name in own}
        self.count = -(-count // world_size) * world_size if even else count
        if self.count > samples:
            raise UsageError(
                f"{world_size} processes cannot share {samples} samples evenly in batches of this "
                "size; use fewer processes or a larger batch_size"
            )

    @abstractmethod
    def plan(self, epoch: int) -> list[np.ndarray]:
        """All processes' batches of an epoch, ``count`` arrays of indices of samples."""

    def batch_sizes(self, epoch: int) -> list[int]:
        """Samples in each batch of an epoch; number i is taken by process ``i % world_size``."""
        return [len(batch) for batch in self.plan(epoch)]

    def __len__(self) -> int:
        """Batches of this process in a whole epoch, also where it is resumed in the middle."""
        return len(range(self.rank, self.count, self.world_size))

    def __iter__(self) -> Iterator[list[Key]]:
        """The epoch's batches after those that are done."""
        # Not a generator itself: epoch and position are read when the iteration starts.
        return self._batches(self.epoch, self.position)

    def _batches(self, epoch: int, start: int) -> Iterator[list[Key]]:
        # Only now: a loader that starts its workers makes two iterators, and uses the second.
        if (self.epoch, self.position) == (epoch, start):
            self.position = 0
        batches = self.plan(epoch)
        copies = _copies(batches)
        for number in range(self.rank + start * self.world_size, len(batches), self.world_size):
            pairs = zip(batches[number].tolist(), copies[number].tolist(), strict=True)
            yield [(epoch, index, copy) if copy else (epoch, index) for index, copy in pairs]

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch; another one than before starts at its first batch."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def resume_at(self, epoch: int, position: int) -> None:
        """Let the next iteration continue an epoch after ``position`` of its batches."""
        if not 0 <= position <= len(self):
            raise UsageError(
                f"cannot resume at batch {position} of epoch {epoch}: it has {len(self)} batches"
            )
        self.epoch, self.position = epoch, position

    def state_dict(self) -> dict[str, Any]:
        """What the batches depend on, the same in each process; the position is the caller's."""
        return {"epoch": self.epoch, **self._identity}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go to the start of the saved epoch; UsageError where its batches were others."""
        for name, here in self._identity.items():
            if name not in state_dict or state_dict[name] != here:
                raise UsageError(
                    f"cannot resume with other batches: {name} was "
                    f"{state_dict.get(name, 'not known')}, now {here}"
                )
        self.epoch, self.position = state_dict["epoch"], 0

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, epoch, 0, ORDER_STREAM))


def shuffle_steps(
    batches: Sequence[np.ndarray], world_size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Shuffle batches, but keep together each ``world_size`` of them, which are taken at once."""
    steps = rng.permutation(len(batches) // world_size)
    return [batches[step * world_size + rank] for step in steps for rank in range(world_size)]


def split_largest(batches: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Halve the largest batches until there are ``count``; halves take the place of the whole."""
    # A batch's place is a path, so that halves of halves are sorted in place.
    parts: list[tuple[int, tuple[int, ...], np.ndarray]]
    parts = [(-len(batch), (place,), batch) for place, batch in enumerate(batches)]
    heapq.heapify(parts)
    while len(parts) < count:
        size, path, batch = heapq.heappop(parts)
        middle = -size // 2
        heapq.heappush(parts, (-middle, (*path, 0), batch[:middle]))
        heapq.heappush(parts, (size + middle, (*path, 1), batch[middle:]))
    return [batch for _, _, batch in sorted(parts, key=lambda part: part[1])]


def digest(numbers: np.ndarray) -> str:
    """CRC-32 of whole numbers, as text."""
    return f"{zlib.crc32(np.asarray(numbers, dtype='<i8').tobytes()):08x}"


def _copies(batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Earlier occurrences of each entry's sample in the epoch."""
    flat = np.concatenate([*batches, np.zeros(0, np.int64)])
    copies = pd.Series(flat).groupby(flat).cumcount().to_numpy()
    return np.split(copies, np.cumsum([len(batch) for batch in batches])[:-1])


class EpochBatchSampler(PlannedBatchSampler):
    """Batches of equal numbers of samples, in an order that depends on (seed, epoch) alone.

    ``n_or_indices`` is the number of samples, or the indices of those to draw from. The last batch
    holds the remaining samples, perhaps a single one, on which a model with batch normalisation
    cannot train; ``drop_last`` leaves it out and, of several even processes, the last batches that
    not all of them would get. ``strata``, [n], are the class or the group of each sample: each is
    drawn equally often in an epoch (:class:`BalancedDraw`).

    Given ``lengths``, the number of scans of each sample by its index, processes that train
    together on shuffled batches take those with similar numbers of scans at the same time, so that
    none waits long for another; the batches are the same. Others: :class:`PlannedBatchSampler`.
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
        self.batch_size = batch_size = require_whole("batch_size", batch_size, 1)
        self.shuffle, self.drop_last = shuffle, drop_last
        if isinstance(n_or_indices, int):
            n_or_indices = range(n_or_indices)
        self.indices = np.array(n_or_indices)
        samples = len(self.indices)
        if samples == 0:
            raise UsageError("there is no sample to make batches of")
        self._draw = make_draw(strata, samples, shuffle)
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
        self._identity = {
            "n": samples,
            "batch_size": self.batch_size,
            "shuffle": shuffle,
            "drop_last": drop_last,
            "strata": None if self._draw is None else digest(self._draw.numbers),
            "lengths": None if self._lengths is None else digest(self._lengths),
            **self._identity,
        }

    def plan(self, epoch: int) -> list[np.ndarray]:
        """All processes' batches of an epoch, as indices of samples."""
        rng, order = self._rng(epoch), self.indices
        if self.shuffle:
            order = rng.permutation(order if self._draw is None else order[self._draw(rng)])
        starts = range(0, len(order), self.batch_size)
        batches = [order[start : start + self.batch_size] for start in starts]
        batches = split_largest(batches[: self.count], self.count)
        if self._lengths is None:
            return batches
        scans = np.array([self._lengths[batch].sum() for batch in batches])
        by_scans = [batches[number] for number in np.argsort(scans, kind="stable")]
        return shuffle_steps(by_scans, self.world_size, rng)


class BucketBatchSampler(PlannedBatchSampler):
    """Batches of samples with similar numbers of scans, ``lengths`` [n], so that little is padded.

    In a bucket the longest sample has at most ``1 + spread`` times the scans of the shortest. An
    epoch's samples, shuffled within their bucket, are lined up from the longest bucket to the
    shortest and cut into batches, which are shuffled: of at most ``batch_size`` samples and
    ``max_scans`` scans, padding included. The last two share the remaining samples.

    The number of batches is the same in each epoch: each sample counts as long as the longest of
    its bucket, so that the line is always cut at the same places. With ``strata`` epochs hold
    different samples: all are given as many batches as the longest possible epoch needs, those with
    fewer by halving their largest batches.

    Where the number of scans is related to the target, batches are less mixed than those of
    :class:`EpochBatchSampler`, which is why that one is the default; the other arguments are its.
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
        line = np.sort(self.counted)[::-1] if self._draw is None else self._draw.largest()
        super().__init__(len(self._cut(line)), samples, seed, rank, world_size, even)
        self._identity = {
            "lengths": digest(self.lengths),
            "batch_size": self.batch_size,
            "shuffle": shuffle,
            "max_scans": self.max_scans,
            "spread": self.spread,
            "strata": None if self._draw is None else digest(self._draw.numbers),
            **self._identity,
        }

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


def _longest_of_bucket(lengths: np.ndarray, spread: float) -> np.ndarray:
    """The largest length of each sample's bucket, [n]."""
    distinct, inverse = np.unique(lengths, return_inverse=True)
    longest, start = np.empty_like(distinct), 0
    while start < len(distinct):
        end = int(np.searchsorted(distinct, distinct[start] * (1 + spread), side="right"))
        longest[start:end] = distinct[end - 1]
        start = end
    return longest[inverse.reshape(-1)]

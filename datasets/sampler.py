"""Which samples make which batch: known from the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from datasets.errors import UsageError

# NumPy pads a seed's words with zeros, so that (seed, epoch) alone would be the very stream that
# augments sample 0 of that epoch; a fourth word keeps the two apart.
ORDER_STREAM = 1

Key = tuple[int, int]


class EpochBatchSampler(Sampler[list[Key]]):
    """Batches of (epoch, index) keys, in an order that depends on (seed, epoch) alone.

    With workers, a loader asks for batches ahead of the training: where the training stands is
    known to the trainer only, which gives the number of batches done to :meth:`resume_at`.

    With ``drop_last=False`` the last batch of an epoch holds what is left over, which may be a
    single sample; a model with batch normalisation cannot train on that: use ``drop_last``, or
    another batch size.

    Args:
        n_or_indices: How many samples there are, or the indices of those to draw from.
        batch_size: B.
        shuffle: A new order in each epoch; otherwise always the given one.
        seed: At least 0.
        drop_last: Leave out a last batch that is not full.

    Attributes:
        epoch: The epoch that the next iteration yields, 1-based as in Ignite.
        position: Batches of it that the next iteration passes over; 0 again once the first of the
            others is taken.

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
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise UsageError(f"batch_size: a whole number from 1 was expected, not {batch_size!r}")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise UsageError(f"seed: a whole number from 0 was expected, not {seed!r}")
        self.indices = (
            np.arange(n_or_indices) if isinstance(n_or_indices, int) else np.array(n_or_indices)
        )
        if len(self.indices) == 0:
            raise UsageError("there is no sample to make batches of")
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 1
        self.position = 0
        if len(self) == 0:
            raise UsageError(
                f"batch_size {batch_size} with drop_last leaves no batch of {len(self.indices)} "
                "samples; a smaller one was expected"
            )

    def __len__(self) -> int:
        """Batches in a whole epoch, also in one that is resumed in the middle."""
        whole, rest = divmod(len(self.indices), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[Key]]:
        """Begin the epoch's batches, after those that are done."""
        # Not a generator itself: epoch and position are taken when the iteration begins, not when
        # the first batch is asked for.
        return self._batches(self.epoch, self.position)

    def _batches(self, epoch: int, start: int) -> Iterator[list[Key]]:
        # Only now is the position used up: a loader that starts its workers makes two iterators,
        # and takes its batches from the second.
        if (self.epoch, self.position) == (epoch, start):
            self.position = 0
        order = self.order(epoch).tolist()
        for number in range(start, len(self)):
            first = number * self.batch_size
            yield [(epoch, index) for index in order[first : first + self.batch_size]]

    def order(self, epoch: int) -> np.ndarray:
        """The order of the samples in an epoch, [n]."""
        if not self.shuffle:
            return self.indices
        return np.random.default_rng((self.seed, epoch, 0, ORDER_STREAM)).permutation(self.indices)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; another one than before begins at its first batch."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def resume_at(self, epoch: int, position: int) -> None:
        """Let the next iteration continue an epoch that was cut.

        Args:
            epoch: That epoch.
            position: How many of its batches the training has done.

        Raises:
            UsageError: The epoch has fewer batches than that.
        """
        if not 0 <= position <= len(self):
            raise UsageError(
                f"cannot resume at batch {position} of epoch {epoch}: it has {len(self)} batches"
            )
        self.epoch, self.position = epoch, position

    def state_dict(self) -> dict[str, Any]:
        """What the batches depend on; how many are done, the caller knows."""
        return {"epoch": self.epoch, **self._identity()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Stand at the beginning of the saved epoch; :meth:`resume_at` goes on from there.

        Raises:
            UsageError: The saved batches were made otherwise; says what differs.
        """
        for name, here in self._identity().items():
            if state_dict[name] != here:
                raise UsageError(
                    f"cannot resume with other batches: {name} was {state_dict[name]}, now {here}"
                )
        self.epoch, self.position = state_dict["epoch"], 0

    def _identity(self) -> dict[str, Any]:
        return {
            "n": len(self.indices),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "drop_last": self.drop_last,
        }

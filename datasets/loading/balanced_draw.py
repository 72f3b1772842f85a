"""Which samples an epoch takes, where each class or each group is to count as much as any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from datasets.errors import UsageError


class BalancedDraw:
    """Draws as many samples as there are, the same number of each kind.

    Counts are exact, not right on average: of n samples of K strata each kind gives n // K or one
    more, and within a kind no sample is taken twice before all are taken once, three times before
    all are taken twice, and so on. Which ones are taken once more (or, of a large kind, at all)
    is drawn anew each epoch, with the same chance for each, evenly along their sizes: short and
    long samples are among the drawn as they are among all (systematic sampling, Madow and Madow
    1944, Annals of Mathematical Statistics 15, 1-24).

    Args:
        strata: The class or the group of each sample, [n].
        sizes: How large each sample is (its number of scans), [n]; all the same without them.

    Raises:
        UsageError: There is no sample.

    Example:
        >>> draw = BalancedDraw(["a", "a", "a", "a", "b", "b"])
        >>> drawn = draw(np.random.default_rng(0))
        >>> (drawn < 4).sum(), (drawn >= 4).sum()
        (np.int64(3), np.int64(3))
    """

    def __init__(self, strata: Sequence[Any] | np.ndarray, sizes: np.ndarray | None = None) -> None:
        if len(strata) == 0:
            raise UsageError("there is no sample to draw from")
        numbers = np.unique(np.asarray(strata), return_inverse=True)[1]
        self.numbers = numbers.reshape(-1).astype(np.int64)
        self.sizes = np.zeros(len(numbers), np.int64) if sizes is None else np.asarray(sizes)
        self._members = [np.flatnonzero(self.numbers == kind) for kind in range(numbers.max() + 1)]

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """Indices of an epoch's samples, [n], by kind; a sample taken twice stands there twice."""
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
    """The draw that a sampler is asked for, if it is.

    Args:
        strata: The class or the group of each sample; None for no draw, each sample once.
        samples: How many there are.
        shuffle: Whether epochs differ.
        sizes: Of each sample.

    Raises:
        ValueError: The strata are of other samples, or epochs do not differ.
    """
    if strata is None:
        return None
    if len(strata) != samples:
        raise ValueError(f"strata of {len(strata)} samples, but there are {samples}")
    if not shuffle:
        raise ValueError("strata are drawn anew in each epoch: that needs shuffle")
    return BalancedDraw(strata, sizes)


def _evenly(members: int, count: int, start: int) -> np.ndarray:
    """Take ``count`` places of ``members``, evenly spaced, so that each has the same chance.

    Place j covers [j * count, (j + 1) * count); a pick falls every ``members``, from ``start`` on,
    which is drawn from [0, members): later starts take later places.
    """
    places: np.ndarray = (start + np.arange(count) * members) // count
    return places

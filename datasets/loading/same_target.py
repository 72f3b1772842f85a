"""Which samples have the same target."""

from __future__ import annotations

import numpy as np

from datasets.errors import UsageError


class SameTarget:
    """Draws, for a sample, another one of the same class or with the same labels.

    Args:
        targets: Class numbers [N], or labels (0 or 1) [N, T].

    Raises:
        UsageError: The targets are values to regress, of which hardly two are the same.

    Example:
        >>> others = SameTarget(np.array([0, 1, 0, 2]))
        >>> others.draw(0, np.random.default_rng(0)), others.draw(1, np.random.default_rng(0))
        (2, None)
    """

    def __init__(self, targets: np.ndarray) -> None:
        if targets.dtype.kind == "f":
            raise UsageError(
                "augmentation mixup mixes samples of one class; values to regress have no classes: "
                "leave it out"
            )
        _, kind = np.unique(targets, axis=0, return_inverse=True)
        self._kind = kind.reshape(-1)
        order = np.argsort(self._kind, kind="stable")
        self._members = np.split(order, np.cumsum(np.bincount(self._kind))[:-1])
        self._place = np.empty(len(order), dtype=np.int64)
        for members in self._members:
            self._place[members] = np.arange(len(members))

    def draw(self, index: int, rng: np.random.Generator) -> int | None:
        """Another sample of the same target; None where there is none."""
        members = self._members[self._kind[index]]
        if len(members) < 2:
            return None
        step = rng.integers(1, len(members))
        return int(members[(self._place[index] + step) % len(members)])

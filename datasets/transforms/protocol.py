"""What a transform is, what one offers that learns, and what one offers that needs the axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from datasets.errors import UsageError

Transform = Callable[[np.ndarray], np.ndarray]

# Below this a scan holds no signal; above it, dividing float32 by float32 cannot overflow here.
TINY = float(np.finfo(np.float32).tiny)


@runtime_checkable
class LearnedTransform(Protocol):
    """A transform that is fitted before it is called."""

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        ...

    def fit(self, chunks: Iterable[np.ndarray]) -> Any:
        """Learn from chunks of training scans, [m, L] each, in one pass."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What was learnt, in tensors and plain types."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take back what :meth:`state_dict` gave."""
        ...


@runtime_checkable
class AxisTransform(Protocol):
    """A transform that has to know the axis, or that leaves another one."""

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L], to those on the axis that it leaves."""
        ...

    def set_axis(self, axis: np.ndarray) -> np.ndarray:
        """Say where the points of the scans stand, before anything else is asked of it.

        Args:
            axis: Of what it will be called with, [L], strictly increasing.

        Returns:
            The axis that it leaves; the same where the points stay.
        """
        ...


@runtime_checkable
class DescribedTransform(Protocol):
    """A transform with something to say of what it learnt."""

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        ...

    def describe(self) -> str:
        """One line for a person."""
        ...


@runtime_checkable
class BoundedTransform(Protocol):
    """A transform that is not made for every intensity or every scan.

    Attributes:
        outside_text: What those are and become, behind "3% of the intensities" or "of the scans".
    """

    @property
    def outside_text(self) -> str:
        """As above."""
        ...

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        ...

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which intensities it is not made for, bool [..., L]; or which scans, bool [..., 1]."""
        ...


def require_axis(name: str, axis: np.ndarray | None, scans: np.ndarray) -> np.ndarray:
    """Return the axis that a transform was given, on which the scans must be.

    Args:
        name: The transform's.
        axis: What its ``set_axis`` was given, [L]; None before that.
        scans: What it is called with, [..., L].

    Raises:
        RuntimeError: It was given none.
        UsageError: The scans have another number of points.
    """
    if axis is None:
        raise RuntimeError(f"{name} is called before it was given the axis: Compose.fit(.., axis=)")
    if scans.shape[-1] != len(axis):
        raise UsageError(
            f"{name} was given an axis of {len(axis)} points; these spectra have {scans.shape[-1]}"
        )
    return axis

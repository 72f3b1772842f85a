"""Interfaces of transforms, their short names, and transforms applied one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Protocol, runtime_checkable

import numpy as np

from datasets.errors import UsageError
from datasets.messages import Message
from datasets.scans import iterate_chunks
from datasets.specs import Spec, build_each
from datasets.transforms import TRANSFORMS

Transform = Callable[[np.ndarray], np.ndarray]

# Below this a scan holds no signal; above it, dividing float32 by float32 cannot overflow here.
TINY = float(np.finfo(np.float32).tiny)


class _OfScans(Protocol):
    def __call__(self, scans: np.ndarray) -> np.ndarray: ...


@runtime_checkable
class LearnedTransform(_OfScans, Protocol):
    """A transform that is fitted before it is called."""

    def fit(self, chunks: Iterable[np.ndarray]) -> Any:
        """Learn from chunks of training scans, [m, L] each, in one pass."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What was learned, in tensors and plain types."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Restore :meth:`state_dict`."""
        ...


@runtime_checkable
class AxisTransform(_OfScans, Protocol):
    """A transform that needs the axis, or changes it."""

    def set_axis(self, axis: np.ndarray) -> np.ndarray:
        """Set the axis of the incoming scans, [L], strictly increasing; returns that of results."""
        ...


@runtime_checkable
class DescribedTransform(_OfScans, Protocol):
    """A transform that describes what it learned."""

    def describe(self) -> str:
        """One line for a person."""
        ...


@runtime_checkable
class BoundedTransform(_OfScans, Protocol):
    """A transform that does not suit every intensity or every scan."""

    @property
    def outside_text(self) -> str:
        """What those are and become, after "3% of the intensities" or "of the scans"."""
        ...

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Intensities that it does not suit, bool [..., L]; or such scans, bool [..., 1]."""
        ...


def require_axis(name: str, axis: np.ndarray | None, scans: np.ndarray) -> np.ndarray:
    """The transform's axis, [L], which the scans, [..., L], must have.

    Raises:
        RuntimeError: It has no axis yet.
        UsageError: The scans have another number of points.
    """
    if axis is None:
        raise RuntimeError(f"{name} is called before it was given the axis: Compose.fit(.., axis=)")
    if scans.shape[-1] != len(axis):
        raise UsageError(
            f"{name} was given an axis of {len(axis)} points; these spectra have {scans.shape[-1]}"
        )
    return axis


class Compose:
    """Transforms applied one after the other; without any, scans pass unchanged.

    Args:
        transforms: In the order of their use.

    Attributes:
        axis: Of the results, [L]; None where no axis was given.

    Example:
        >>> from datasets.transforms import TIC, Sqrt
        >>> Compose([TIC(), Sqrt()])(np.array([[0, 8]], dtype=np.float32)).round(3).tolist()
        [[0.0, 1.4140000343322754]]
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)
        self.axis: np.ndarray | None = None
        self._axes: list[np.ndarray] = []  # before the first transform, and after each

    @property
    def spec_len(self) -> int | None:
        """L, points of a transformed scan; None where no axis was given."""
        return None if self.axis is None else len(self.axis)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        return reduce(lambda values, transform: transform(values), self.transforms, scans)

    def place(self, scans: np.ndarray) -> np.ndarray:
        """Bring raw scans, [..., L], onto the axis of the results, without changing intensities."""
        for number, transform in enumerate(self.transforms[: len(self._axes)]):
            if not np.array_equal(self._axes[number], self._axes[number + 1]):
                scans = transform(scans)
        return scans

    def bind(self, axis: np.ndarray) -> Compose:
        """Set the axis of the incoming scans, [L], strictly increasing.

        Raises:
            UsageError: A transform does not suit the axis.
        """
        axes = [np.asarray(axis)]
        for transform in self.transforms:
            if isinstance(transform, AxisTransform):
                axes.append(transform.set_axis(axes[-1]))
            else:
                axes.append(axes[-1])
        self._axes, self.axis = axes, axes[-1]
        return self

    def fit(
        self, spectra: np.ndarray, rows: np.ndarray | None = None, axis: np.ndarray | None = None
    ) -> Compose:
        """Fit each transform that learns on the output of those before it, in one pass each.

        Args:
            spectra: [N_scans, L], usually memory-mapped; read a chunk at a time.
            rows: The training scans, [n]; None for all.
            axis: Of the spectra, [L]; some transforms need it.

        Raises:
            UsageError: There is no scan to learn from, a transform does not suit the axis, or one
                returns another number of points than it declared.
        """
        rows = np.arange(len(spectra)) if rows is None else np.sort(rows)
        if axis is not None:
            self.bind(axis)
        for number, transform in enumerate(self.transforms):
            if isinstance(transform, LearnedTransform):
                transform.fit(self._output_of(number, spectra, rows))
        for one in iterate_chunks(spectra, rows[:1]):
            self._check_lengths(one)
        return self

    def describe(self) -> list[str]:
        """Descriptions of the transforms, in lines for a person."""
        lines = [t.describe() for t in self.transforms if isinstance(t, DescribedTransform)]
        if self.axis is not None and len(self.axis) != len(self._axes[0]):
            lines.append(
                Message(
                    "the transforms leave {} of {} points ({} to {})",
                    *(len(self.axis), len(self._axes[0])),
                    *(f"{self.axis[0]:g}", f"{self.axis[-1]:g}"),
                )
            )
        return lines

    def _output_of(
        self, number: int, spectra: np.ndarray, rows: np.ndarray
    ) -> Iterator[np.ndarray]:
        before = Compose(self.transforms[:number])
        return (before(chunk) for chunk in iterate_chunks(spectra, rows))

    def _check_lengths(self, scans: np.ndarray) -> None:
        for transform, axis in zip(self.transforms, self._axes[1:], strict=False):
            before, scans = scans.shape[-1], transform(scans)
            if scans.shape[-1] != len(axis):
                raise UsageError(
                    f"transform {type(transform).__name__} leaves {scans.shape[-1]} points of "
                    f"{before}, but says {len(axis)}; its set_axis has to return the axis it leaves"
                )

    def state_dict(self) -> dict[str, Any]:
        """The transforms' names, their states in order, and the axis."""
        states = [
            transform.state_dict() if isinstance(transform, LearnedTransform) else {}
            for transform in self.transforms
        ]
        import torch  # only where states are saved

        axis = torch.from_numpy(self._axes[0].copy()) if self._axes else None
        return {"names": self._names(), "states": states, "axis": axis}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            UsageError: The state is of other transforms.
        """
        if list(state_dict["names"]) != self._names():
            raise UsageError(
                f"the saved transforms are [{', '.join(state_dict['names'])}]; "
                f"[{', '.join(self._names())}] are asked for"
            )
        axis = state_dict.get("axis")  # older states hold none
        if axis is not None:
            self.bind(axis.detach().cpu().numpy().copy())
        for transform, state in zip(self.transforms, state_dict["states"], strict=True):
            if isinstance(transform, LearnedTransform):
                transform.load_state_dict(state)

    def _names(self) -> list[str]:
        return [short_name(transform) for transform in self.transforms]


def short_name(transform: object) -> str:
    """The transform's key in ``TRANSFORMS``, or its class's name."""
    cls = type(transform)
    names = {path: name for name, path in TRANSFORMS.items()}
    return names.get(f"{cls.__module__}.{cls.__qualname__}", cls.__name__)


def make_transforms(specs: Sequence[Spec]) -> Compose:
    """Build transforms: keys of ``TRANSFORMS``, classes, or ``{"name": ..., "params": {...}}``.

    Raises:
        UsageError: An unknown name or parameter, with the nearest valid one.

    Example:
        >>> [type(t).__name__ for t in make_transforms(["tic", {"name": "sqrt"}]).transforms]
        ['TIC', 'Sqrt']
    """
    return Compose(build_each("transform", TRANSFORMS, specs))

"""Transforms applied one after the other, by name, and what of their input they do not suit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np

from datasets.errors import UsageError
from datasets.messages import Message
from datasets.scans import iterate_chunks
from datasets.specs import Spec, build_each
from datasets.transforms.axis_changes import Bin, Crop, Resample
from datasets.transforms.baseline import SNIP, AsLS, SavitzkyGolay, TopHat
from datasets.transforms.normalisation import (
    CLR,
    SNV,
    TIC,
    Log,
    MedianNorm,
    Sqrt,
    Standardize,
    VectorNorm,
)
from datasets.transforms.peaks import Align, PickPeaks

# Scans [..., L] to new ones. A transform may have more than that:
# - fit(chunks), state_dict() and load_state_dict(state), where it learns from training scans, in
#   chunks [m, L] and one pass;
# - set_axis(axis), where it needs the axis of the incoming scans, strictly increasing [L], or
#   changes it; returns that of its results;
# - describe(), one line on what it learned;
# - outside(scans), intensities [..., L] or scans [..., 1] that it does not suit, bool, and
#   outside_text, what those are and become, after "3% of the intensities" or "of the scans".
Transform = Callable[[np.ndarray], np.ndarray]
LEARNED = ("fit", "state_dict", "load_state_dict")

# Of two names for one class the last is saved.
TRANSFORMS = {
    "savgol": SavitzkyGolay,
    "snip": SNIP,
    "tophat": TopHat,
    "asls": AsLS,
    "tic": TIC,
    "snv": SNV,
    "vector": VectorNorm,
    "median": MedianNorm,
    "sqrt": Sqrt,
    "log": Log,
    "log1p": Log,
    "clr": CLR,
    "crop": Crop,
    "resample": Resample,
    "bin": Bin,
    "align": Align,
    "pick_peaks": PickPeaks,
    "standardize": Standardize,
}
NAMES = {cls: name for name, cls in TRANSFORMS.items()}

# Scans, spread evenly over the training part, that give shares to some hundredths.
MOST_SCANS = 300
# Less of the intensities is rounding, or a few points below a baseline.
SMALLEST_SHARE = 0.001
# Mean-centred scans lose half of their absolute intensity, noise around a baseline a few percent.
REFUSED_LOSS = 0.25


class Compose:
    """Transforms applied one after the other; without any, scans pass unchanged.

    ``axis`` is that of the results, [L]; None where no axis was given.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms: list[Any] = list(transforms)
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
        """Set the axis of the incoming scans, [L], strictly increasing; UsageError if unsuited."""
        axes = [np.asarray(axis)]
        for transform in self.transforms:
            changes = hasattr(transform, "set_axis")
            axes.append(transform.set_axis(axes[-1]) if changes else axes[-1])
        self._axes, self.axis = axes, axes[-1]
        return self

    def fit(
        self, spectra: np.ndarray, rows: np.ndarray | None = None, axis: np.ndarray | None = None
    ) -> Compose:
        """Fit each transform that learns on the output of those before it, in one pass each.

        ``spectra``, [N_scans, L], are read a chunk at a time; ``rows`` are the training scans, [n],
        None for all; some transforms need ``axis``, [L]. UsageError where there is no scan to learn
        from, a transform does not suit the axis, one that learns has no state that can be saved,
        or one returns NaN or another number of points than it declared.
        """
        rows = np.arange(len(spectra)) if rows is None else np.sort(rows)
        if axis is not None:
            self.bind(axis)
        for number, transform in enumerate(self.transforms):
            if hasattr(transform, "fit"):
                before = Compose(self.transforms[:number])
                transform.fit(map(before, iterate_chunks(spectra, rows)))
                _check_state(transform)
        for one in iterate_chunks(spectra, rows[:1]):
            self._check_results(one)
        return self

    def describe(self) -> list[str]:
        """Descriptions of the transforms, in lines for a person."""
        lines = [t.describe() for t in self.transforms if hasattr(t, "describe")]
        if self.axis is not None and len(self.axis) != len(self._axes[0]):
            told = "the transforms leave {} of {} points ({} to {})"
            ends = (f"{end:g}" for end in (self.axis[0], self.axis[-1]))
            lines.append(Message(told, len(self.axis), len(self._axes[0]), *ends))
        return lines

    def _check_results(self, scans: np.ndarray) -> None:
        for transform, axis in zip(self.transforms, self._axes[1:], strict=False):
            before, scans = scans.shape[-1], transform(scans)
            if scans.shape[-1] != len(axis):
                raise UsageError(
                    f"transform {type(transform).__name__} leaves {scans.shape[-1]} points of "
                    f"{before}, but says {len(axis)}; its set_axis has to return the axis it leaves"
                )
            if not np.isfinite(scans).all():
                name = type(transform).__name__
                raise UsageError(f"transform {name} makes NaN or infinite values of a scan")

    def state_dict(self) -> dict[str, Any]:
        """The transforms' names, their states in order, and the axis."""
        states = [t.state_dict() if _learns(t) else {} for t in self.transforms]
        import torch  # only where states are saved

        axis = torch.from_numpy(self._axes[0].copy()) if self._axes else None
        return {"names": self._names(), "states": states, "axis": axis}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`; UsageError where it is of other transforms."""
        if list(state_dict["names"]) != self._names():
            raise UsageError(
                f"the saved transforms are [{', '.join(state_dict['names'])}]; "
                f"[{', '.join(self._names())}] are asked for"
            )
        axis = state_dict.get("axis")  # older states hold none
        if axis is not None:
            self.bind(axis.detach().cpu().numpy().copy())
        for transform, state in zip(self.transforms, state_dict["states"], strict=True):
            if _learns(transform):
                transform.load_state_dict(state)

    def _names(self) -> list[str]:
        return list(map(short_name, self.transforms))


def _learns(transform: object) -> bool:
    return all(hasattr(transform, name) for name in LEARNED)


def _check_state(transform: object) -> None:
    """Refuse a fitted transform whose state cannot be saved."""
    name = f"transform {type(transform).__name__}"
    if not _learns(transform):
        raise UsageError(f"{name} has fit: it needs state_dict and load_state_dict, too")
    for key, value in transform.state_dict().items():  # type: ignore[attr-defined]
        if isinstance(value, np.ndarray | np.generic):
            raise UsageError(
                f"{name}: its state '{key}' is of NumPy; a state holds tensors (torch.from_numpy) "
                "and plain Python values"
            )


def short_name(transform: object) -> str:
    """The transform's key in ``TRANSFORMS``, or its class's name."""
    return NAMES.get(type(transform), type(transform).__name__)


def make_transforms(specs: Sequence[Spec]) -> Compose:
    """Build transforms: keys of ``TRANSFORMS``, classes, or ``{"name": ..., "params": {...}}``."""
    return Compose(build_each("transform", TRANSFORMS, specs))


@dataclass(frozen=True)
class OutOfDomain:
    """Input that a transform of the short name ``name`` does not suit.

    ``share`` is that of the intensities, scans or points concerned; ``level`` as of audit findings.
    """

    name: str
    share: float
    sentence: str
    level: Literal["refuse", "warn", "note"]


@dataclass
class _Seen:
    """The input of a transform: each point's range, and what the transform does not suit."""

    low: Any = np.inf
    high: Any = -np.inf
    outside: int = 0
    count: int = 0
    lost: float = 0.0
    total: float = 0.0
    per_scan: bool = False

    def add(self, scans: np.ndarray, transform: Any = None) -> None:
        """Count scans [n, L] and what of them the transform does not suit."""
        self.low = np.minimum(self.low, scans.min(axis=0))
        self.high = np.maximum(self.high, scans.max(axis=0))
        if not hasattr(transform, "outside"):
            return
        outside = transform.outside(scans)
        self.per_scan = outside.shape != scans.shape
        self.outside += int(outside.sum())
        self.count += outside.size
        if not self.per_scan:
            sizes = np.abs(scans, dtype=np.float64)
            self.lost += float(sizes[outside].sum())
            self.total += float(sizes.sum())

    @property
    def constant(self) -> float:
        return float(np.mean(self.low == self.high))


def find_out_of_domain(
    transforms: Compose, spectra: np.ndarray, rows: np.ndarray
) -> list[OutOfDomain]:
    """Count the input that each fitted transform does not suit, over some training rows, [n]."""
    if not transforms.transforms or not spectra.shape[1]:
        return []
    rows = np.sort(rows)
    rows = rows[:: max(1, -(-len(rows) // MOST_SCANS))]
    seen, result = [_Seen() for _ in transforms.transforms], _Seen()
    for scans in iterate_chunks(spectra, rows):
        for transform, given in zip(transforms.transforms, seen, strict=True):
            given.add(scans, transform)
            scans = transform(scans)
        result.add(scans)
    both = zip(transforms.transforms, seen, strict=True)
    found = [told for transform, given in both for told in _tell(transform, given)]
    if len(rows) > 1 and result.constant == 1 and seen[0].constant < 1:
        told = "every scan is the same after them, so that nothing can be learned from it"
        found.append(OutOfDomain("constant", 1.0, Message(f"transforms: {told}"), "refuse"))
    return found


def _tell(transform: Any, given: _Seen) -> list[OutOfDomain]:
    name = short_name(transform)
    if isinstance(transform, Standardize) and given.constant >= SMALLEST_SHARE:
        told = "{}: {} of the points never vary in the training scans and become 0"
        sentence = Message(told, name, f"{given.constant:.1%}")
        return [OutOfDomain(name, given.constant, sentence, "note")]
    share = given.outside / given.count if given.count else 0.0
    if share < SMALLEST_SHARE:
        return []
    outside = transform.outside_text
    if not isinstance(outside, Message):  # of a user's own transform
        outside = Message("{}", outside)
    if given.per_scan:
        told = f"{{}}: {{}} of the scans {outside.phrase}"
        sentence = Message(told, name, f"{share:.1%}", *outside.values)
        return [OutOfDomain(name, share, sentence, "warn")]
    lost = given.lost / given.total if given.total else 0.0
    told = f"{{}}: {{}} of the intensities, {{}} of their total size, {outside.phrase}"
    sentence = Message(told, name, f"{share:.1%}", f"{lost:.1%}", *outside.values)
    return [OutOfDomain(name, share, sentence, "refuse" if lost >= REFUSED_LOSS else "warn")]

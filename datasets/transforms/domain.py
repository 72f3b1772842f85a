"""Intensities and scans that a transform does not suit, counted before training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from datasets.messages import Message
from datasets.scans import iterate_chunks
from datasets.transforms.compose import BoundedTransform, Compose, short_name
from datasets.transforms.normalisation import Standardize

# Scans, spread evenly over the training part, that give shares to some hundredths.
MOST_SCANS = 300
# Less of the intensities is rounding, or a few points below a baseline.
SMALLEST_SHARE = 0.001
# Mean-centred scans lose half of their absolute intensity, noise around a baseline a few percent.
REFUSED_LOSS = 0.25


@dataclass(frozen=True)
class OutOfDomain:
    """Input that a transform does not suit.

    Attributes:
        name: The transform's short name.
        share: The share of the intensities, scans or points concerned.
        sentence: For a person, in one line.
        level: ``refuse``, ``warn`` or ``note``, as of the audit's findings.
    """

    name: str
    share: float
    sentence: str
    level: Literal["refuse", "warn", "note"]


@dataclass
class _Tally:
    outside: int = 0
    seen: int = 0
    lost: float = 0.0
    total: float = 0.0
    per_scan: bool = False


@dataclass
class _Range:
    """Lowest and highest value of each point so far."""

    low: np.ndarray = field(default_factory=lambda: np.array(np.inf))
    high: np.ndarray = field(default_factory=lambda: np.array(-np.inf))

    def add(self, scans: np.ndarray) -> None:
        self.low = np.minimum(self.low, scans.min(axis=0))
        self.high = np.maximum(self.high, scans.max(axis=0))

    @property
    def constant(self) -> float:
        """The share of points that never vary."""
        return float((self.low == self.high).mean())


def find_out_of_domain(
    transforms: Compose, spectra: np.ndarray, rows: np.ndarray
) -> list[OutOfDomain]:
    """Count the input that each fitted transform does not suit, over some training rows, [n].

    Example:
        >>> from datasets.transforms import Sqrt
        >>> scans = np.array([[1, -1, 4], [2, -2, 8]], dtype=np.float32)
        >>> found = find_out_of_domain(Compose([Sqrt()]), scans, np.arange(2))
        >>> found[0].name, round(found[0].share, 2), found[0].level
        ('sqrt', 0.33, 'warn')
    """
    if not transforms.transforms or not spectra.shape[1]:
        return []
    rows = np.sort(rows)
    rows = rows[:: max(1, -(-len(rows) // MOST_SCANS))]
    tallies = [_Tally() for _ in transforms.transforms]
    ranges = [_Range() for _ in range(len(transforms.transforms) + 1)]
    for chunk in iterate_chunks(spectra, rows):
        scans = chunk
        for number, transform in enumerate(transforms.transforms):
            ranges[number].add(scans)
            if isinstance(transform, BoundedTransform):
                _count(tallies[number], transform.outside(scans), scans)
            scans = transform(scans)
        ranges[-1].add(scans)
    found = [
        told
        for number, transform in enumerate(transforms.transforms)
        for told in _tell(transform, tallies[number], ranges[number])
    ]
    if len(rows) > 1 and ranges[-1].constant == 1 and ranges[0].constant < 1:
        sentence = Message(
            "transforms: every scan is the same after them, so that nothing can be learned from it"
        )
        found.append(OutOfDomain("constant", 1.0, sentence, "refuse"))
    return found


def _count(tally: _Tally, outside: np.ndarray, scans: np.ndarray) -> None:
    tally.per_scan = outside.shape != scans.shape
    tally.outside += int(outside.sum())
    tally.seen += outside.size
    if not tally.per_scan:
        sizes = np.abs(scans, dtype=np.float64)
        tally.lost += float(sizes[outside].sum())
        tally.total += float(sizes.sum())


def _tell(transform: Any, tally: _Tally, given: _Range) -> list[OutOfDomain]:
    name = short_name(transform)
    if isinstance(transform, Standardize) and given.constant >= SMALLEST_SHARE:
        sentence = Message(
            "{}: {} of the points never vary in the training scans and become 0",
            name,
            f"{given.constant:.1%}",
        )
        return [OutOfDomain(name, given.constant, sentence, "note")]
    share = tally.outside / tally.seen if tally.seen else 0.0
    if share < SMALLEST_SHARE:
        return []
    outside = transform.outside_text
    if not isinstance(outside, Message):  # of a user's own transform
        outside = Message("{}", outside)
    if tally.per_scan:
        told = f"{{}}: {{}} of the scans {outside.phrase}"
        sentence = Message(told, name, f"{share:.1%}", *outside.values)
        return [OutOfDomain(name, share, sentence, "warn")]
    lost = tally.lost / tally.total if tally.total else 0.0
    sentence = Message(
        f"{{}}: {{}} of the intensities, {{}} of their total size, {outside.phrase}",
        *(name, f"{share:.1%}", f"{lost:.1%}", *outside.values),
    )
    return [OutOfDomain(name, share, sentence, "refuse" if lost >= REFUSED_LOSS else "warn")]

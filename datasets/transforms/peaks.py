"""Peaks above a scan's noise, and alignment by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.polynomial import polynomial

from datasets.errors import UsageError
from datasets.messages import Message
from datasets.specs import require_choice, require_number, require_whole
from datasets.transforms.axis_changes import require_axis

PPM = "ppm"
PARTS_PER_MILLION = 1e-6
DEGREES = {"linear": 1, "quadratic": 2}
SCALES = ("linear", "sqrt")
# Peaks are counted in bins of this part of the largest shift.
BINS_A_SHIFT = 8
FEWEST_POINTS = 3
# Of a normal distribution, the standard deviation is so many median absolute deviations.
MAD_TO_STD = 1.4826


class PickPeaks:
    """Keep the peaks and set everything between them to zero; the axis stays.

    A peak is the largest point within ``half_window`` points on either side, and more than ``snr``
    times the scan's noise above its median; the noise is estimated by the median absolute deviation
    (Gibb and Strimmer 2012, MALDIquant, Bioinformatics 28, 2270-2271). ``width`` points are kept on
    either side of its top. Remove the baseline first: it would count as noise.
    """

    def __init__(self, snr: float = 3.0, half_window: int = 5, width: int = 0) -> None:
        self.snr = require_number("pick_peaks.snr", snr)
        self.half_window = require_whole("pick_peaks.half_window", half_window, 1)
        self.width = require_whole("pick_peaks.width", width)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Keep the peaks of scans, [..., L]."""
        kept = find_peaks(scans, self.snr, self.half_window)
        if self.width:
            from scipy.ndimage import maximum_filter1d

            kept = maximum_filter1d(kept, 2 * self.width + 1, axis=-1, mode="constant")
        return np.where(kept, scans, np.float32(0))


def find_peaks(scans: np.ndarray, snr: float, half_window: int) -> np.ndarray:
    """Which points of scans [..., L] are peaks (of a flat top the first), as in PickPeaks."""
    from scipy.ndimage import maximum_filter1d

    above = scans - np.median(scans, axis=-1, keepdims=True)
    noise = MAD_TO_STD * np.median(np.abs(above), axis=-1, keepdims=True)
    found: np.ndarray = scans == maximum_filter1d(scans, 2 * half_window + 1, axis=-1)
    found &= above > snr * noise
    found[..., 1:] &= scans[..., 1:] > scans[..., :-1]
    found[..., :1] = found[..., -1:] = False
    return found


def peak_tops(scans: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Tops of parabolas through three points each, in points, scan after scan; scans are [n, L]."""
    rows, points = np.nonzero(found)
    before, top, after = (scans[rows, points + step].astype(np.float64) for step in (-1, 0, 1))
    # A peak rises to its top, so that the curvature is never zero.
    tops: np.ndarray = points + 0.5 * (after - before) / (2 * top - before - after)
    return tops


class Align:
    """Warp each scan so that its peaks meet reference peaks, given or those of most training scans.

    A scan's peaks are matched with them, a polynomial displacement is fitted to the matches by
    least squares, and the scan is interpolated linearly (Gibb and Strimmer 2012, MALDIquant,
    Bioinformatics 28, 2270-2271; He et al. 2011, Cancer Informatics 10, 65-82). A scan with fewer
    than ``min_matches`` matched peaks, or whose points would change their order, stays as it is.
    Peaks are picked as by :class:`PickPeaks`: remove the baseline first.

    ``max_shift`` is a number of points, or relative to the position on the axis as ``"500ppm"``:
    less than half the distance of neighbouring peaks, or they are confused. ``reference`` has
    positions in the axis's unit; None learns those that the share ``min_frequency`` of the training
    scans show. ``warp`` is ``linear`` (an offset and a stretch) or ``quadratic``, in the axis
    (``scale="linear"``) or in its square root (``"sqrt"``), proportional to a time of flight.
    """

    def __init__(
        self,
        max_shift: float | str = 3.0,
        reference: Sequence[float] | None = None,
        min_frequency: float = 0.5,
        warp: str = "linear",
        scale: str = "linear",
        min_matches: int = 3,
        snr: float = 3.0,
        half_window: int = 5,
    ) -> None:
        self._relative, self._reach = _read_shift(max_shift)
        self.min_frequency = require_number("align.min_frequency", min_frequency, 0.0, 1.0)
        self.degree = DEGREES[require_choice("align.warp", warp, list(DEGREES))]
        self.scale = require_choice("align.scale", scale, SCALES)
        self.min_matches = require_whole("align.min_matches", min_matches, self.degree + 1)
        self.snr = require_number("align.snr", snr)
        self.half_window = require_whole("align.half_window", half_window, 1)
        self._given = None if reference is None else _read_reference(reference, self.min_matches)
        self.reference = self._given
        self.scans = self.unaligned = 0
        self._axis: np.ndarray | None = None

    def set_axis(self, axis: np.ndarray) -> np.ndarray:
        """Set the axis, [L], which stays; UsageError where the parameters do not suit it."""
        places = np.asarray(axis, dtype=np.float64)
        if len(places) < FEWEST_POINTS:
            raise UsageError(f"align: an axis of {len(places)} points has no peaks")
        if places[0] < 0 and self.scale == "sqrt":
            raise UsageError(f"align.scale: 'sqrt' needs an axis from 0 on, not {places[0]:g}")
        if places[0] <= 0 and self._relative:
            raise UsageError(f"align.max_shift: ppm need an axis above 0, not from {places[0]:g}")
        if self._given is not None:
            outside = self._given[(self._given < places[0]) | (self._given > places[-1])]
            if len(outside):
                raise UsageError(
                    f"align.reference: {outside[0]:g} is not on the axis, {places[0]:g} to "
                    f"{places[-1]:g}"
                )
        scaled = np.sqrt(places) if self.scale == "sqrt" else places
        self._axis, self._places = axis, places
        # From 0 to 1, in which polynomials are well conditioned.
        self._scaled = (scaled - scaled[0]) / (scaled[-1] - scaled[0])
        reach = self._reach * places / np.gradient(places) if self._relative else self._reach
        self._limit = reach * np.gradient(self._scaled)
        return axis

    def fit(self, chunks: Iterable[np.ndarray]) -> Align:
        """Learn the reference peaks, unless given, from chunks of training scans, [m, L]."""
        tops = [top for chunk in chunks for top in self._tops(chunk)]
        if not tops:
            raise UsageError("align: there is no training scan to learn from")
        if self._given is None:
            learnt = self._most_frequent(tops)
            if len(learnt) < self.min_matches:
                raise UsageError(
                    f"align: only {len(learnt)} peaks are in {self.min_frequency:.0%} of "
                    f"the {len(tops)} training scans, and min_matches is {self.min_matches}; lower "
                    "align.min_frequency or align.snr, raise align.max_shift, or give "
                    "align.reference"
                )
            self.reference = learnt
        self.scans = len(tops)
        self.unaligned = sum(len(self._match(top)[0]) < self.min_matches for top in tops)
        return self

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Align scans, [..., L], of the axis's points; RuntimeError before axis and reference."""
        require_axis("align", self._axis, scans)
        rows = scans.reshape(-1, scans.shape[-1])
        aligned = np.array(rows, dtype=np.float32)
        for row, target, tops in zip(rows, aligned, self._tops(rows), strict=True):
            moved = self._moved(tops)
            if moved is not None:
                target[:] = np.interp(self._scaled, moved, row)
        return aligned.reshape(scans.shape)

    def describe(self) -> str:
        """How many reference peaks and unaligned scans there are, in one line."""
        return Message(
            "align: {} reference peaks; {} of {} training scans have fewer than {} of them and "
            "stay as they are",
            *(0 if self.reference is None else len(self.reference), self.unaligned),
            *(self.scans, self.min_matches),
        )

    def state_dict(self) -> dict[str, Any]:
        """The reference peaks as a tensor [R], or None where there are none, and the counts."""
        import torch  # only where states are saved

        known = None if self.reference is None else torch.from_numpy(self.reference.copy())
        return {"reference": known, "scans": self.scans, "unaligned": self.unaligned}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        known = state_dict["reference"]
        self.reference = None if known is None else known.detach().cpu().double().numpy()
        self.scans, self.unaligned = state_dict["scans"], state_dict["unaligned"]

    def _tops(self, scans: np.ndarray) -> list[np.ndarray]:
        """Tops of the peaks of each of [n, L], in points."""
        found = find_peaks(scans, self.snr, self.half_window)
        ends = np.cumsum(found.sum(axis=1))
        return np.split(peak_tops(scans, found), ends[:-1]) if len(scans) else []

    def _measure(self, tops: np.ndarray) -> np.ndarray:
        if not self._relative:
            return tops
        logarithm: np.ndarray = np.log(np.interp(tops, np.arange(len(self._places)), self._places))
        return logarithm

    def _most_frequent(self, tops: Sequence[np.ndarray]) -> np.ndarray:
        measured = self._measure(np.concatenate(tops))
        owner = np.repeat(np.arange(len(tops)), [len(top) for top in tops])
        if not len(measured):
            return measured
        # A whole kernel fits at both ends.
        lowest = measured.min() - self._reach
        bins = ((measured - lowest) / self._reach * BINS_A_SHIFT).astype(np.int64)
        size = int(bins.max()) + BINS_A_SHIFT + 1
        near = np.bartlett(2 * BINS_A_SHIFT + 3)[1:-1]  # 0 beyond the reach
        density = np.convolve(np.bincount(bins, minlength=size), near, "same")
        total = np.convolve(np.bincount(bins, measured, minlength=size), near, "same")
        found, left = [], density.copy()
        enough = self.min_frequency * len(tops)
        # Scans that are spread evenly over the reach add half their number to the density.
        while left.max() >= max(enough / 2, 0.5):
            best = int(left.argmax())
            place = total[best] / density[best]
            if len(np.unique(owner[np.abs(measured - place) <= self._reach])) >= enough:
                found.append(place)
            # A peak must not be within reach of two.
            left[max(0, best - 2 * BINS_A_SHIFT) : best + 2 * BINS_A_SHIFT + 1] = 0
        known = np.sort(np.array(found))
        if self._relative:
            return np.exp(known)
        return np.interp(known, np.arange(len(self._places)), self._places)

    def _match(self, tops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A scan's peaks within reach of reference peaks, and those, both scaled [K]."""
        assert self.reference is not None
        if not len(tops):
            return tops, tops
        points = np.interp(self.reference, self._places, np.arange(len(self._places)))
        wanted, there = self._measure(points), self._measure(tops)
        behind = np.clip(np.searchsorted(there, wanted), 0, len(there) - 1)
        before = np.maximum(behind - 1, 0)
        nearer = np.abs(wanted - there[before]) <= np.abs(wanted - there[behind])
        nearest = np.where(nearer, before, behind)
        distance = np.abs(wanted - there[nearest])
        # A peak is matched with the closest of the reference peaks that it is nearest to.
        closest_first = np.argsort(distance, kind="stable")
        own = closest_first[np.unique(nearest[closest_first], return_index=True)[1]]
        matched = own[distance[own] <= self._reach]
        numbers = np.arange(len(self._places))
        return (
            np.interp(tops[nearest[matched]], numbers, self._scaled),
            np.interp(points[matched], numbers, self._scaled),
        )

    def _moved(self, tops: np.ndarray) -> np.ndarray | None:
        """New positions of a scan's points, scaled [L]; None where it stays as it is."""
        if self.reference is None:
            raise RuntimeError("align is called before fit or load_state_dict")
        there, wanted = self._match(tops)
        if len(there) < self.min_matches:
            return None
        shift = polynomial.polyval(
            self._scaled, polynomial.polyfit(there, wanted - there, self.degree)
        )
        moved: np.ndarray = self._scaled + np.clip(shift, -self._limit, self._limit)
        return moved if (np.diff(moved) > 0).all() else None


def _read_shift(value: object) -> tuple[bool, float]:
    text = value.strip() if isinstance(value, str) else ""
    if text.endswith(PPM):
        try:
            reach = float(text.removesuffix(PPM)) * PARTS_PER_MILLION
        except ValueError:
            reach = 0.0
        if 0 < reach < 1:
            return True, reach
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < np.inf:
        return False, float(value)
    raise UsageError(
        f"align.max_shift: a number of points above 0 was expected, or as '500ppm', not {value!r}"
    )


def _read_reference(places: object, fewest: int) -> np.ndarray:
    if not isinstance(places, Sequence) or isinstance(places, str):
        raise UsageError(f"align.reference: a list of numbers was expected, not {places!r}")
    numbers = [require_number(f"align.reference.{i}", p, -np.inf) for i, p in enumerate(places)]
    if len(set(numbers)) < fewest:
        raise UsageError(
            f"align.reference: at least {fewest} places were expected (align.min_matches), not "
            f"{len(set(numbers))}"
        )
    return np.unique(np.array(numbers))

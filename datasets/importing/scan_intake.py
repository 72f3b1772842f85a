"""From a raw scan to a spectrum on the common axis and a record; filters and sample index."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.cohort import LARGEST_NUMBER
from datasets.errors import CohortError, nearest
from datasets.importing.choices import (
    AGGREGATES,
    EMPTY,
    REASONS,
    SATURATED,
    TIC,
    TIC_SPREAD,
)
from datasets.importing.imported_cohort import CovariateTable, ImportRoles, ScanRecord
from datasets.readers import Naming, RawScan

OWN = "own"
PPM = "ppm"
PARTS_PER_MILLION = 1e-6
# An axis that reaches STOP up to rounding does not include it.
ROUNDING = 1e-6
# 4 GB per thousand scans; more is a typing error.
MAX_POINTS = 10**6
# This many points in a row at the scan's maximum are saturated.
FLAT_TOP_POINTS = 3
# Of a normal distribution, the standard deviation is so many median absolute deviations.
MAD_TO_STD = 1.4826
# Currents that differ by less than this share are never outliers.
ALIKE = 0.05
# Defaults: neighbouring points of a profile measure the same, peaks add up.
PROFILE_AGGREGATE, PEAKS_AGGREGATE = "mean", "sum"


def parse_axis(text: str) -> CommonAxis | OwnAxis:
    """Read an axis as the command line gives it; CohortError where it is none.

    ``START:STOP:STEP`` are points from START on, before STOP; a STEP such as ``200ppm`` grows with
    the position. ``own`` keeps the axis that all scans have.
    """
    if text == OWN:
        return OwnAxis()
    try:
        start_text, stop_text, step_text = text.split(":")
        ppm = step_text.endswith(PPM)
        start, stop = float(start_text), float(stop_text)
        step = float(step_text.removesuffix(PPM))
    except ValueError as error:
        raise CohortError(
            f"axis {text!r} is not understood: START:STOP:STEP was expected, as 2000:20000:3 or "
            f"2000:20000:200ppm, or {OWN}"
        ) from error
    if not all(map(math.isfinite, (start, stop, step))) or step <= 0 or stop <= start:
        raise CohortError(f"axis {text!r}: STOP must lie above START, and STEP above 0")
    if ppm and start <= 0:
        raise CohortError(f"axis {text!r}: with a STEP in ppm START must lie above 0")
    growth = step * PARTS_PER_MILLION
    steps = math.log(stop / start) / math.log1p(growth) if ppm else (stop - start) / step
    if steps > MAX_POINTS:
        raise CohortError(f"axis {text!r} has {steps:.3g} points; at most {MAX_POINTS} are meant")
    number = np.arange(max(1, math.ceil(steps - ROUNDING)))
    points = start * (1 + growth) ** number if ppm else start + number * step
    if not (np.diff(points.astype(np.float32)) > 0).all():
        raise CohortError(f"axis {text!r}: STEP is too small for float32, in which axes are kept")
    if ppm:
        beyond = np.concatenate([[start / (1 + growth)], points, [points[-1] * (1 + growth)]])
        return CommonAxis(points, np.sqrt(beyond[:-1] * beyond[1:]))
    return CommonAxis(points, start + (np.arange(len(points) + 1) - 0.5) * step)


class CommonAxis:
    """A regular axis of ``points``, [L]; each is the centre of a bin between ``edges``, [L + 1].

    Each bin holds the mean, the sum or the maximum of the scan's points in it, its lower edge
    included; a bin without a point is 0. ``interpolate`` interpolates the scan linearly, with 0
    outside of it. Edges are halfway between the points, in ratio for ppm.
    """

    def __init__(self, points: np.ndarray, edges: np.ndarray) -> None:
        self.points = points
        self.edges = edges

    def place(self, scan: RawScan, aggregate: str) -> np.ndarray:
        """The scan on the axis, float64 [L]; CohortError where peaks would be interpolated."""
        if aggregate == "interpolate":
            if scan.centroid:
                raise CohortError(
                    f"{scan.where} is a list of peaks, between which nothing can be interpolated; "
                    "choose sum or max"
                )
            if not scan.points:
                return np.zeros(len(self.points))
            return np.interp(self.points, scan.mz, scan.intensity, left=0.0, right=0.0)
        bounds = np.searchsorted(scan.mz, self.edges)
        counts = np.diff(bounds)
        filled = counts > 0
        binned = np.zeros(len(counts))
        if filled.any():
            # Between two filled bins there is no point, so that their starts delimit the bins.
            reduce = np.maximum.reduceat if aggregate == "max" else np.add.reduceat
            binned[filled] = reduce(scan.intensity[: bounds[-1]], bounds[:-1][filled])
        if aggregate == "mean":
            binned[filled] /= counts[filled]
        return binned

    def covered(self, scan: RawScan) -> np.ndarray:
        """Which of the scan's points are in a bin, bool [n]."""
        return (scan.mz >= self.edges[0]) & (scan.mz < self.edges[-1])

    def empty_bins(self, scan: RawScan) -> int:
        """Number of bins without a point of the scan."""
        return int((np.diff(np.searchsorted(scan.mz, self.edges)) == 0).sum())


class OwnAxis:
    """The axis that all scans have, float64 [L], set by the first scan; any other is refused."""

    def __init__(self, points: np.ndarray | None = None) -> None:
        self.points = points
        self._first = "an earlier scan"

    def place(self, scan: RawScan, aggregate: str) -> np.ndarray:
        """The scan unchanged, float64 [L]; CohortError where its axis is another or falls."""
        if self.points is None:
            falls = np.flatnonzero(~(np.diff(scan.mz.astype(np.float32)) > 0))
            if not scan.points or len(falls):
                at = f" at {scan.mz[falls[0]]:g}" if len(falls) else ""
                raise CohortError(
                    f"{scan.where}: its axis does not rise{at} as float32; give START:STOP:STEP"
                )
            self.points, self._first = scan.mz.copy(), scan.where
        if np.array_equal(scan.mz, self.points):
            return scan.intensity
        differs = f"the axis has {scan.points} points, that of {self._first} {len(self.points)}"
        if scan.points == len(self.points):
            point = int(np.argmax(scan.mz != self.points))
            here, there = scan.mz[point], self.points[point]
            differs = f"point {point} is {here:.10g}, that of {self._first} is {there:.10g}"
        raise CohortError(
            f"mixed axes: in {scan.where} {differs}; give START:STOP:STEP to bring both onto one"
        )

    def covered(self, scan: RawScan) -> np.ndarray:
        """All of the scan's points, bool [n]."""
        return np.ones(scan.points, dtype=bool)

    def empty_bins(self, scan: RawScan) -> int:
        """None is empty."""
        return 0


class SampleIndex:
    """Samples in the order of their first scan.

    All scans of a sample must agree in the ``decisive`` columns, such as label and group. Any other
    column in which they differ is left empty.
    """

    def __init__(self, decisive: Collection[str] = ()) -> None:
        self.samples: dict[str, dict[str, str]] = {}
        self.decisive = frozenset(decisive)
        self._sources: dict[tuple[str, str], str] = {}

    def add(self, sample_id: str, scan: str, source: str, columns: Mapping[str, str]) -> None:
        """Add a scan; CohortError where it is there, or differs in a decisive column."""
        earlier = self._sources.get((sample_id, scan))
        if earlier is not None:
            if earlier == source:
                where, mend = f"{source}, twice", "number the rows of a sample in a column 'scan'"
            else:
                where = f"{earlier} and {source}"
                mend = "a column 'scan' tells the rows of a sample apart, --sample-from its files"
            raise CohortError(
                f"duplicate: sample {sample_id!r}, scan {scan!r}, stands in {where}; {mend}"
            )
        self._sources[sample_id, scan] = source
        known = self.samples.setdefault(sample_id, dict(columns))
        for name, value in columns.items():
            if known.setdefault(name, value) == value:
                continue
            if name in self.decisive:
                raise CohortError(
                    f"sample {sample_id!r} has two values of {name!r}: {known[name]!r} and, in "
                    f"{source}, {value!r}"
                )
            known[name] = ""


@dataclass(frozen=True)
class ScanFilter:
    """Which scans are left out; labels are not looked at. CohortError for an invalid setting.

    ``reasons`` are of `REASONS`. ``empty``: nothing but 0 on the axis. ``saturated``: a point at or
    above ``ceiling``, the largest value of the detector, or a flat top where none is given.
    ``tic``: a total ion current (the sum of the intensities on the axis) whose logarithm is farther
    from the median of all scans than ``spread`` robust standard deviations.
    """

    reasons: Collection[str] = ()
    ceiling: float | None = None
    spread: float = TIC_SPREAD

    def __post_init__(self) -> None:
        """Check the settings."""
        for reason in self.reasons:
            if reason not in REASONS:
                raise CohortError(f"no scan is left out for {reason!r}{nearest(reason, REASONS)}")
        if self.ceiling is not None and SATURATED not in self.reasons:
            raise CohortError("a ceiling of the detector needs the filter 'saturated'")
        if not self.spread > 0:
            raise CohortError(f"spread of the total ion current is {self.spread}; above 0, please")

    def plain(self) -> dict[str, Any]:
        """The settings as plain types; empty where nothing is left out."""
        if not self.reasons:
            return {}
        return {"reasons": sorted(self.reasons), "ceiling": self.ceiling, "spread": self.spread}

    def reason(self, scan: RawScan, spectrum: np.ndarray) -> str | None:
        """Why a scan is left out, given its spectrum on the axis, [L]; None where it is kept."""
        if EMPTY in self.reasons and not spectrum.any():
            return EMPTY
        if SATURATED in self.reasons and self._saturated(scan):
            return SATURATED
        return None

    def outlying(self, tic: np.ndarray) -> np.ndarray:
        """Which total ion currents, [N], are outliers, bool [N]."""
        if TIC not in self.reasons or not len(tic):
            return np.zeros(len(tic), dtype=bool)
        # Currents that are not positive have no logarithm.
        level = np.log(np.maximum(tic, np.finfo(np.float64).tiny))
        distance = np.abs(level - np.median(level))
        return distance > max(self.spread * MAD_TO_STD * np.median(distance), np.log1p(ALIKE))

    def _saturated(self, scan: RawScan) -> bool:
        if not scan.points:
            return False
        top = scan.intensity.max()
        if self.ceiling is not None:
            return bool(top >= self.ceiling)
        if scan.centroid or top <= 0 or scan.points < FLAT_TOP_POINTS:
            return False
        neighbours = np.lib.stride_tricks.sliding_window_view(scan.intensity, FLAT_TOP_POINTS)
        return bool((neighbours == top).all(axis=1).any())


class ScanIntake:
    """Brings scan after scan onto the axis, and records the samples, but no spectrum.

    Without ``aggregate``, profiles are averaged and peak lists summed, and cannot be mixed; on the
    scans' own axis it stays None. CohortError for an invalid axis or aggregate.
    """

    def __init__(
        self,
        axis: str,
        aggregate: str | None = None,
        naming: Naming | None = None,
        scan_filter: ScanFilter | None = None,
        roles: ImportRoles | None = None,
        covariates: CovariateTable | None = None,
    ) -> None:
        self.axis = parse_axis(axis)
        self.aggregate = self._chosen = aggregate
        self.naming = naming or Naming()
        self.scan_filter = scan_filter or ScanFilter()
        self.roles = roles or ImportRoles()
        self.covariates = covariates
        self.index = SampleIndex(self.roles.decisive())
        self.scans = 0
        if aggregate is not None and aggregate not in AGGREGATES:
            raise CohortError(f"no aggregate {aggregate!r}{nearest(aggregate, AGGREGATES)}")
        if aggregate is not None and isinstance(self.axis, OwnAxis):
            raise CohortError("an axis of the scans' own has no bins: leave the aggregate out")

    def take(
        self, raw: RawScan, source: str, one_scan_a_file: bool
    ) -> tuple[ScanRecord, np.ndarray | None]:
        """The record of a scan of the file ``source``, and its spectrum on the axis, float32 [L].

        None if left out. CohortError where it does not fit the axis or the scans before it.
        """
        scan = self.naming.apply(raw, source, one_scan_a_file)
        if not self.scans:
            self.roles.check(scan.columns, self.covariates)
        self.roles.check_sample(scan.sample_id, scan.columns)
        spectrum = self.axis.place(scan, self._aggregate_of(scan))
        covered = self.axis.covered(scan)
        self._check_placed(scan, spectrum, covered)
        record = ScanRecord(
            sample_id=scan.sample_id,
            scan=scan.scan,
            source=source,
            columns=dict(scan.columns),
            details=dict(scan.details),
            tic=float(scan.intensity[covered].sum()),
            low=float(scan.mz[0]) if scan.points else None,
            high=float(scan.mz[-1]) if scan.points else None,
            empty_bins=self.axis.empty_bins(scan),
            zero=not spectrum.any(),
            left_out=self.scan_filter.reason(scan, spectrum),
        )
        self.remember(record)
        return record, None if record.left_out else spectrum.astype(np.float32)

    def remember(self, record: ScanRecord) -> None:
        """Add the record of an earlier scan."""
        self.index.add(record.sample_id, record.scan, record.source, record.columns)
        self.scans += 1

    def fixed(self) -> dict[str, Any]:
        """What the first scan determines for all, as plain types."""
        points = None
        if isinstance(self.axis, OwnAxis) and self.axis.points is not None:
            points = self.axis.points.tolist()
        return {"points": points, "aggregate": self.aggregate}

    def fix(self, fixed: Mapping[str, Any]) -> None:
        """Restore :meth:`fixed`."""
        self.aggregate = fixed["aggregate"]
        if fixed["points"] is not None:
            self.axis = OwnAxis(np.array(fixed["points"]))

    def _aggregate_of(self, scan: RawScan) -> str:
        """The aggregate; the first scan decides if none was chosen."""
        if isinstance(self.axis, OwnAxis):
            return ""
        if self._chosen is not None:
            return self._chosen
        suits = PEAKS_AGGREGATE if scan.centroid else PROFILE_AGGREGATE
        self.aggregate = self.aggregate or suits
        if suits != self.aggregate:
            kinds = (("a profile", "lists of peaks"), ("a list of peaks", "profiles"))
            this, before = kinds[bool(scan.centroid)]
            raise CohortError(
                f"{scan.where} is {this}, the scans before are {before}; choose what both are "
                f"brought onto the axis by: {', '.join(AGGREGATES[:3])}"
            )
        return suits

    def _check_placed(self, scan: RawScan, spectrum: np.ndarray, covered: np.ndarray) -> None:
        if scan.points and not covered.any() and EMPTY not in self.scan_filter.reasons:
            assert self.axis.points is not None
            raise CohortError(
                f"{scan.where} covers {scan.mz[0]:.6g} to {scan.mz[-1]:.6g}, nothing of the axis "
                f"({self.axis.points[0]:.6g} to {self.axis.points[-1]:.6g}); the filter 'empty' "
                "leaves such scans out"
            )
        if (np.abs(spectrum) > LARGEST_NUMBER).any():
            raise CohortError(f"{scan.where} has intensities beyond float32")

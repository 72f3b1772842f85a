"""From a raw scan to a spectrum on the common axis and a record; filters and sample index."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.cohort import LARGEST_NUMBER
from datasets.errors import CohortError, nearest
from datasets.importing.common_axis import AGGREGATES, OwnAxis, parse_axis
from datasets.importing.import_columns import CovariateTable, ImportRoles
from datasets.readers import Naming, RawScan

EMPTY, SATURATED, TIC = "empty", "saturated", "tic"
REASONS = (EMPTY, SATURATED, TIC)
# This many points in a row at the scan's maximum are saturated.
FLAT_TOP_POINTS = 3
# Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): a modified z-score above 3.5.
TIC_SPREAD = 3.5
# Of a normal distribution, the standard deviation is so many median absolute deviations.
MAD_TO_STD = 1.4826
# Currents that differ by less than this share are never outliers.
ALIKE = 0.05
# Defaults: neighbouring points of a profile measure the same, peaks add up.
PROFILE_AGGREGATE, PEAKS_AGGREGATE = "mean", "sum"


@dataclass(frozen=True)
class ScanRecord:
    """What is recorded of a scan beside its spectrum; plain types.

    Attributes:
        source: Name of its file.
        columns: Columns of the sample.
        details: Columns of the scan.
        tic: Total ion current: the sum of its intensities on the axis.
        low: Its first point, None where it has none.
        high: Its last point.
        empty_bins: Points of the axis without one of its points.
        zero: Whether it is 0 on the whole axis.
        left_out: Why it is left out, None where it is kept.
    """

    sample_id: str
    scan: str
    source: str
    columns: Mapping[str, str]
    details: Mapping[str, str]
    tic: float
    low: float | None
    high: float | None
    empty_bins: int
    zero: bool
    left_out: str | None


class SampleIndex:
    """Samples in the order of their first scan.

    Args:
        decisive: Columns in which all scans of a sample must agree, such as label and group. Any
            other column in which they differ is left empty.
    """

    def __init__(self, decisive: Collection[str] = ()) -> None:
        self.samples: dict[str, dict[str, str]] = {}
        self.decisive = frozenset(decisive)
        self._sources: dict[tuple[str, str], str] = {}

    def add(self, sample_id: str, scan: str, source: str, columns: Mapping[str, str]) -> None:
        """Add a scan from the file ``source``.

        Raises:
            CohortError: The sample has a scan of this name, or differs in a decisive column.
        """
        earlier = self._sources.get((sample_id, scan))
        if earlier is not None:
            where = f"{source}, twice" if earlier == source else f"{earlier} and {source}"
            raise CohortError(
                f"duplicate: sample {sample_id!r}, scan {scan!r}, stands in {where}; a column "
                "'scan' tells the rows of a sample apart, --sample-from its files"
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

    def columns(self) -> list[str]:
        """All columns, in the order of their first scan."""
        return list(dict.fromkeys(name for known in self.samples.values() for name in known))


@dataclass(frozen=True)
class ScanFilter:
    """Which scans are left out; labels are not looked at.

    Attributes:
        reasons: Of `REASONS`. ``empty``: nothing but 0 on the axis. ``saturated``: a point at or
            above `ceiling`, or a flat top where none is given. ``tic``: a total ion current (the
            sum of the intensities on the axis) whose logarithm is farther from the median of all
            scans than `spread` robust standard deviations.
        ceiling: Largest value of the detector, in the intensities' unit.
        spread: For ``tic``.

    Raises:
        CohortError: An invalid reason or number.
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
        if scan.centroid or top <= 0:
            return False
        at_top = np.concatenate([[0], scan.intensity == top, [0]]).astype(np.int8)
        starts, ends = (np.flatnonzero(np.diff(at_top) == step) for step in (1, -1))
        return bool((ends - starts).max() >= FLAT_TOP_POINTS)


class ScanIntake:
    """Brings scan after scan onto the axis, and records the samples, but no spectrum.

    Without ``aggregate``, profiles are averaged and peak lists summed; they cannot be mixed then.

    Attributes:
        axis: The common axis.
        aggregate: How scans are brought onto it; None before the first, or on their own axis.
        index: The samples.
        scans: Number of scans so far.

    Raises:
        CohortError: Axis or aggregate is invalid.
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
        """Process a scan of the file ``source``.

        Returns:
            The record, and the spectrum on the axis, float32 [L], None if the scan is left out.

        Raises:
            CohortError: The scan does not fit the axis or the scans before it.
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
            this, before = (
                ("a list of peaks", "profiles")
                if scan.centroid
                else ("a profile", "lists of peaks")
            )
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

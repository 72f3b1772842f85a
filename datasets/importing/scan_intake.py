"""A raw scan becomes a spectrum on the common axis and a record of what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.cohort import LARGEST_NUMBER
from datasets.errors import CohortError, nearest
from datasets.importing.common_axis import AGGREGATES, OwnAxis, parse_axis
from datasets.importing.covariate_join import CovariateTable
from datasets.importing.import_roles import ImportRoles
from datasets.importing.sample_index import SampleIndex, ScanRecord
from datasets.importing.scan_quality import EMPTY, ScanFilter
from datasets.readers import Naming, RawScan

# Unless one is chosen: neighbouring points of a profile measure the same, peaks add up.
PROFILE_AGGREGATE, PEAKS_AGGREGATE = "mean", "sum"


class ScanIntake:
    """Takes up scan after scan, and remembers the samples, but no spectrum.

    Args:
        axis: As `parse_axis` reads it.
        aggregate: One of `AGGREGATES`; None takes the mean of profiles and the sum of lists of
            peaks, which cannot both be in one cohort then.
        naming: Names from paths.
        scan_filter: Which scans are left out.
        roles: What the columns mean.
        covariates: A table that is joined later; its columns can have roles, too.

    Attributes:
        axis: The common axis.
        aggregate: How scans are brought onto it; None before the first, or on their own axis.
        index: The samples.
        scans: How many were taken up.

    Raises:
        CohortError: Axis or aggregate is none.
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
        """Take up a scan.

        Args:
            raw: As it was read.
            source: Name of its file.
            one_scan_a_file: Whether the file's name names the scan.

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
        """Take up what an earlier import had recorded of a scan."""
        self.index.add(record.sample_id, record.scan, record.source, record.columns)
        self.scans += 1

    def fixed(self) -> dict[str, Any]:
        """What the first scan has decided for all, as plain types."""
        points = None
        if isinstance(self.axis, OwnAxis) and self.axis.points is not None:
            points = self.axis.points.tolist()
        return {"points": points, "aggregate": self.aggregate}

    def fix(self, fixed: Mapping[str, Any]) -> None:
        """Decide as an earlier import's first scan had."""
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

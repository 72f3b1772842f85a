"""Everything that is chosen about an import of raw files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets.importing.covariate_join import CovariateTable
from datasets.importing.import_roles import ImportRoles
from datasets.importing.scan_quality import ScanFilter
from datasets.readers import Naming, RawReader


@dataclass(frozen=True)
class ImportSettings:
    """What is imported, and how.

    Attributes:
        source: A file, a folder, or a tar archive of a folder.
        format: Name of the format.
        reader: Reads it.
        axis: As `common_axis.parse_axis` reads it.
        aggregate: How scans are brought onto it; None for what suits them.
        match: Only files whose name matches, as a shell's pattern.
        naming: Names from paths.
        scan_filter: Which scans are left out.
        roles: What the columns mean.
        covariates: A table to join by the samples' names.
        about: What cohort.yaml is to say besides: name, licence, units.
        covariates_about: What the provenance is to say of that table.
    """

    source: Path
    format: str
    reader: RawReader
    axis: str
    aggregate: str | None = None
    match: str | None = None
    naming: Naming = field(default_factory=Naming)
    scan_filter: ScanFilter = field(default_factory=ScanFilter)
    roles: ImportRoles = field(default_factory=ImportRoles)
    covariates: CovariateTable | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    covariates_about: Mapping[str, Any] | None = None

    def decisive(self) -> dict[str, Any]:
        """What decides over the spectra and their names, as plain types."""
        return {
            "format": self.format,
            "axis": self.axis,
            "aggregate": self.aggregate,
            "match": self.match,
            "names": self.naming.options(),
            "reader": asdict(self.reader),
            "filter": self.scan_filter.plain(),
        }

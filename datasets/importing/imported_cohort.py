"""The tables, covariates and roles of an imported cohort, and its cohort.yaml."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from datasets.cohort import (
    ROLES_FILE,
    SAMPLE_ID,
    SAMPLES_FILE,
    SCAN,
    SCANS_FILE,
    as_numbers,
    file_sha256,
    spelled_alike,
)
from datasets.errors import CohortError, nearest
from datasets.readers import cell_text, read_rows

Cells = dict[str, str]
LABEL, GROUP = "label", "group"

LEFT_OUT_FILE = "left_out.csv"
SOURCES_FILE = "sources.csv"


@dataclass(frozen=True)
class Joined:
    """Samples with their covariates, those without a row, and names that no sample has."""

    samples: dict[str, Cells]
    without_row: list[str]
    without_sample: list[str]


@dataclass(frozen=True)
class CovariateTable:
    """Covariates by sample, as text; ``columns`` are without the samples' names."""

    columns: list[str]
    rows: Mapping[str, Cells]

    @classmethod
    def read(cls, path: Path, id_column: str = SAMPLE_ID) -> CovariateTable:
        """Read a CSV, TSV, Parquet or XLSX table of one row per sample, else CohortError."""
        lines = read_rows(path)
        _, header = next(lines)
        if id_column not in header:
            raise CohortError(
                f"{path.name} has no column {id_column!r} of samples' names"
                f"{nearest(id_column, header)}; choose with --covariate-id"
            )
        rows: dict[str, Cells] = {}
        for number, cells in lines:
            named = dict(zip(header, map(cell_text, cells), strict=True))
            sample = named.pop(id_column)
            if not sample:
                raise CohortError(f"{path.name}, row {number} names no sample")
            if sample in rows:
                raise CohortError(f"{path.name}, row {number}: duplicate sample {sample!r}")
            rows[sample] = named
        columns = [name for name in header if name != id_column]
        if SAMPLE_ID in columns:
            raise CohortError(f"{path.name} has both columns {id_column!r} and {SAMPLE_ID!r}")
        return cls(columns, rows)

    def join(self, samples: Mapping[str, Cells]) -> Joined:
        """Give each sample its row; CohortError where no row is of a sample."""
        if not self.rows:
            raise CohortError("covariates: the table holds no row")
        if not any(name in self.rows for name in samples):
            one, other = next(iter(samples), ""), next(iter(self.rows), "")
            alike = spelled_alike(samples, self.rows)
            if alike is not None:
                one, other = alike
            hint = "names differ by case, blanks or leading zeros" if alike else "no name is shared"
            raise CohortError(
                f"covariates: none of the {len(self.rows)} rows is of one of the {len(samples)} "
                f"samples: {hint}, as sample {one!r} and row {other!r}; spell them alike, or "
                "choose the column of names with --covariate-id"
            )
        empty = dict.fromkeys(self.columns, "")
        return Joined(
            samples={
                name: {**known, **self.rows.get(name, empty)} for name, known in samples.items()
            },
            without_row=[name for name in samples if name not in self.rows],
            without_sample=[name for name in self.rows if name not in samples],
        )


@dataclass(frozen=True)
class ImportRoles:
    """Columns named by the caller; None takes that of the role's name, if there is one."""

    label: str | None = None
    group: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()

    def decisive(self) -> list[str]:
        """Columns in which a sample's scans must agree."""
        return [self.label or LABEL, self.group or GROUP]

    def check(self, columns: Collection[str], table: CovariateTable | None) -> None:
        """Check that columns exist, have one role and hold numbers, or raise a CohortError."""
        known = [*columns, *(table.columns if table else ())]
        single = {"label": self.label, "group": self.group}
        given = [(name, role) for role, name in single.items() if name]
        given += [(name, "numeric") for name in self.numeric]
        given += [(name, "categorical") for name in self.categorical]
        for name, role in given:
            if name not in known:
                raise CohortError(f"no column {name!r} for the role {role}{nearest(name, known)}")
        names = [name for name, _ in given] + [SAMPLE_ID]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise CohortError(f"column {twice[0]!r} has two roles; one was expected")
        if table:
            samples = list(table.rows)
            for name in self.numeric:
                if name in table.columns:
                    cells = pd.Series([row[name] for row in table.rows.values()], dtype=object)
                    as_numbers(cells, name, samples)

    def check_sample(self, sample_id: str, columns: Mapping[str, str]) -> None:
        """Check that a raw file's numeric columns of a sample are numbers, else CohortError."""
        for name in self.numeric:
            if name in columns:
                as_numbers(pd.Series([columns[name]], dtype=object), name, [sample_id])

    def plain(self, columns: Collection[str]) -> dict[str, Any]:
        """The roles for cohort.yaml, given the columns of samples.csv."""
        label = self.label or (LABEL if LABEL in columns else None)
        return {
            **({"label": label} if label else {}),
            "group": self.group or GROUP,
            "numeric": list(self.numeric),
            "categorical": list(self.categorical),
        }


@dataclass(frozen=True)
class ScanRecord:
    """What is recorded of a scan beside its spectrum; plain types.

    ``source`` is its file, ``columns`` those of the sample, ``details`` those of the scan. ``tic``
    is the sum of its intensities on the axis; ``low`` and ``high`` its first and last point, None
    where it has none; ``empty_bins`` counts points of the axis without one of its points; ``zero``
    tells that it is 0 on the whole axis; ``left_out`` why it is left out, None where it is kept.
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


@dataclass
class ScanTally:
    """Counts of the scans: those kept and their samples, in order, and those left out by reason.

    ``zero_scans`` are kept scans that are 0 on the whole axis; ``empty_bins`` are points of the
    axis without a scan's point, summed over the kept scans; ``low`` and ``high`` are ends of all
    scans.
    """

    scans: int = 0
    samples: dict[str, None] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    zero_scans: int = 0
    empty_bins: int = 0
    low: float | None = None
    high: float | None = None

    def count(self, record: ScanRecord) -> None:
        """Count a scan."""
        if record.low is not None and record.high is not None:
            self.low = record.low if self.low is None else min(self.low, record.low)
            self.high = record.high if self.high is None else max(self.high, record.high)
        if record.left_out:
            self.left_out[record.left_out] += 1
            return
        self.scans += 1
        self.samples[record.sample_id] = None
        self.empty_bins += record.empty_bins
        self.zero_scans += record.zero


def write_scans(folder: Path, records: Iterable[ScanRecord]) -> ScanTally:
    """Write scans.csv, and left_out.csv of the scans that are left out."""
    tally = ScanTally()
    with (
        (folder / SCANS_FILE).open("w", encoding="utf-8", newline="") as scans_file,
        (folder / LEFT_OUT_FILE).open("w", encoding="utf-8", newline="") as left_out_file,
    ):
        scans, left_out = _writer(scans_file), _writer(left_out_file)
        left_out.writerow([SAMPLE_ID, SCAN, "source", "reason"])
        details: list[str] | None = None
        for record in records:
            if details is None:
                details = list(record.details)
                scans.writerow([SAMPLE_ID, SCAN, "source", "tic", *details])
            tally.count(record)
            name = [record.sample_id, record.scan, record.source]
            if record.left_out:
                left_out.writerow([*name, record.left_out])
            else:
                more = [record.details.get(detail, "") for detail in details]
                scans.writerow([*name, f"{record.tic:.9g}", *more])
    return tally


def join_samples(
    samples: Mapping[str, Cells], roles: ImportRoles, covariates: CovariateTable | None
) -> Joined:
    """Join the covariates; without a group column each sample is its own group."""
    joined = covariates.join(samples) if covariates else Joined(dict(samples), [], [])
    named = any(GROUP in cells for cells in joined.samples.values())
    if roles.group is not None or named:
        return joined
    grouped = {name: {GROUP: name, **cells} for name, cells in joined.samples.items()}
    return replace(joined, samples=grouped)


def write_samples(folder: Path, samples: Mapping[str, Cells]) -> list[str]:
    """Write samples.csv; returns its columns, without `sample_id`."""
    columns = list(dict.fromkeys(name for cells in samples.values() for name in cells))
    with (folder / SAMPLES_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = _writer(file)
        writer.writerow([SAMPLE_ID, *columns])
        for sample, cells in samples.items():
            writer.writerow([sample, *(cells.get(name, "") for name in columns)])
    return columns


def write_sources(folder: Path, sources: Iterable[Mapping[str, Any]]) -> int:
    """Write sources.csv, the raw files with their sizes and checksums; returns their number."""
    table = pd.DataFrame(list(sources), columns=["name", "bytes", "sha256"])
    table.columns = pd.Index(["file", "bytes", "sha256"])
    table.to_csv(folder / SOURCES_FILE, index=False, lineterminator="\n")
    return len(table)


def write_description(folder: Path, description: Mapping[str, Any]) -> None:
    """Write cohort.yaml, with the checksums of all files beside it."""
    checksums = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    text = yaml.safe_dump(
        {**description, "checksums": checksums}, sort_keys=False, allow_unicode=True, width=100
    )
    (folder / ROLES_FILE).write_text(text, encoding="utf-8")


def idle_columns(columns: Sequence[str], roles: Mapping[str, Any]) -> list[str]:
    """Columns without a role."""
    used = {name for role in roles.values() for name in ([role] if isinstance(role, str) else role)}
    return [name for name in columns if name not in used]


def _writer(file: Any) -> Any:
    return csv.writer(file, lineterminator="\n")

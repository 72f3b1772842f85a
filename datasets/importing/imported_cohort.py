"""The tables, covariates and roles of an imported cohort, and its cohort.yaml."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
        if id_column != SAMPLE_ID and SAMPLE_ID in header:
            raise CohortError(f"{path.name} has both columns {id_column!r} and {SAMPLE_ID!r}")
        rows: dict[str, Cells] = {}
        for number, cells in lines:
            named = dict(zip(header, map(cell_text, cells), strict=True))
            sample = named.pop(id_column)
            if not sample:
                raise CohortError(f"{path.name}, row {number} names no sample")
            if sample in rows:
                raise CohortError(f"{path.name}, row {number}: duplicate sample {sample!r}")
            rows[sample] = named
        return cls([name for name in header if name != id_column], rows)

    def join(self, samples: Mapping[str, Cells]) -> Joined:
        """Give each sample its row; CohortError where no row is of a sample."""
        if not self.rows:
            raise CohortError("covariates: the table holds no row")
        if not any(name in self.rows for name in samples):
            alike = spelled_alike(samples, self.rows)
            one, other = alike or (next(iter(samples), ""), next(iter(self.rows)))
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
        given = [(name, role) for role, name in (("label", self.label), ("group", self.group))]
        given += [(name, "numeric") for name in self.numeric]
        given += [(name, "categorical") for name in self.categorical]
        names = [SAMPLE_ID]
        for name, role in given:
            if name and name not in known:
                raise CohortError(f"no column {name!r} for the role {role}{nearest(name, known)}")
            if name in names:
                raise CohortError(f"column {name!r} has two roles; one was expected")
            names += [name] if name else []
        for name in self.numeric:
            if table and name in table.columns:
                cells = pd.Series([row[name] for row in table.rows.values()], dtype=object)
                as_numbers(cells, name, list(table.rows))

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


def write_scans(folder: Path, scans: pd.DataFrame) -> None:
    """Write scans.csv, and left_out.csv of those that are left out; a :class:`ScanRecord` a row."""
    details = pd.DataFrame(scans["details"].tolist(), dtype=object)
    named = scans[[SAMPLE_ID, SCAN, "source"]]
    is_kept = scans["left_out"].isna()
    columns = pd.concat([named, scans["tic"], details], axis=1)
    _write(folder / SCANS_FILE, columns[is_kept])
    _write(folder / LEFT_OUT_FILE, named.assign(reason=scans["left_out"])[~is_kept])


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
    table = pd.DataFrame(list(samples.values()), dtype=object)
    columns = table.columns.astype(str).tolist()
    table.insert(0, SAMPLE_ID, list(samples), allow_duplicates=True)
    _write(folder / SAMPLES_FILE, table)
    return columns


def write_sources(folder: Path, sources: Iterable[Mapping[str, Any]]) -> int:
    """Write sources.csv, the raw files with their sizes and checksums; returns their number."""
    table = pd.DataFrame(list(sources), columns=["name", "bytes", "sha256"])
    _write(folder / SOURCES_FILE, table.rename(columns={"name": "file"}))
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


def _write(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n", float_format="%.9g")

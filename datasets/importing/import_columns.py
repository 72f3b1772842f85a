"""Columns of an imported cohort: the joined covariates and the roles."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.cohort import SAMPLE_ID, as_numbers, spelled_alike
from datasets.errors import CohortError, nearest
from datasets.readers import cell_text, read_rows

Cells = dict[str, str]
LABEL, GROUP = "label", "group"


@dataclass(frozen=True)
class Joined:
    """Samples with their covariates.

    Attributes:
        samples: Name -> cells by column; empty where the table has no row of the sample.
        without_row: Samples without a row.
        without_sample: Names in the table that no sample has.
    """

    samples: dict[str, Cells]
    without_row: list[str]
    without_sample: list[str]


@dataclass(frozen=True)
class CovariateTable:
    """Covariates by sample.

    Attributes:
        columns: Names of the columns, without the samples' names.
        rows: Name of a sample -> its cells by column, as text.
    """

    columns: list[str]
    rows: Mapping[str, Cells]

    @classmethod
    def read(cls, path: Path, id_column: str = SAMPLE_ID) -> CovariateTable:
        """Read a CSV, TSV, Parquet or XLSX table of one row per sample.

        Raises:
            CohortError: It cannot be read, lacks the column, or a name is missing or repeated.
        """
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
        """Give each sample its row, which overrides columns of the same name.

        Raises:
            CohortError: The table has no row, or none of a sample.
        """
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
    """Columns named by the caller; None takes the column of the role's name, if there is one.

    Without a group column each sample is a group.
    """

    label: str | None = None
    group: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()

    def decisive(self) -> list[str]:
        """Columns in which a sample's scans must agree."""
        return [self.label or LABEL, self.group or GROUP]

    def check(self, columns: Collection[str], table: CovariateTable | None) -> None:
        """Check that the columns exist, have one role each, and hold numbers where they must.

        Raises:
            CohortError: Names the column that cannot have its role.
        """
        known = [*columns, *(table.columns if table else ())]
        given = [
            *(
                (name, role)
                for role, name in (("label", self.label), ("group", self.group))
                if name
            ),
            *((name, "numeric") for name in self.numeric),
            *((name, "categorical") for name in self.categorical),
        ]
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
        """Check that a raw file's numeric columns of a sample are numbers.

        Raises:
            CohortError: They are not.
        """
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

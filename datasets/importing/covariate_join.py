"""A table of covariates, joined to samples by their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets.cohort import SAMPLE_ID, spelled_alike
from datasets.errors import CohortError, nearest
from datasets.readers import cell_text, read_rows

Cells = dict[str, str]


@dataclass(frozen=True)
class Joined:
    """Samples with their covariates.

    Attributes:
        samples: Name -> cells by column; empty where the table has no row of the sample.
        without_row: Samples that the table does not name.
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
        """Read a table, a row a sample.

        Args:
            path: A CSV, TSV, Parquet or XLSX file.
            id_column: Column of the samples' names.

        Raises:
            CohortError: It cannot be read, has no such column, or names a sample twice or not.
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
        """Give each sample its row; where both have a column, the table has the word.

        Raises:
            CohortError: The table has no row, or none of a sample.

        Example:
            >>> table = CovariateTable(["age"], {"S1": {"age": "61"}, "S9": {"age": "50"}})
            >>> table.join({"S1": {"spot": "A1"}, "S2": {"spot": "A2"}}).without_sample
            ['S9']
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

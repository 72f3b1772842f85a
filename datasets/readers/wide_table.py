"""Wide tables: a row a scan, a column a point of the axis, the other columns about the sample."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datasets.cohort import DECIMAL_COMMA, MISSING_TEXT
from datasets.errors import CohortError, nearest
from datasets.readers.scan import RawScan
from datasets.readers.source_files import SourceFile
from datasets.readers.table_rows import cell_text, read_rows

# A point's column is called by its number; R's read.csv and others put a letter before it.
POINT = re.compile(
    r"(?:(?:X|mz|m/z)[_ .]?)?(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)", re.IGNORECASE
)
SCAN = "scan"


@dataclass(frozen=True)
class WideTableReader:
    """Rows of tables, each a scan.

    A column that is called by a number (``1000.5``, also ``X1000.5``, ``mz_1000.5``) is a point of
    the axis. Every other column is about the sample, but for `scan`, which tells the scans of a
    sample apart; without it a sample has one row.

    Attributes:
        sample_column: Column of the samples' names.
        suffixes: Endings of the files.
    """

    sample_column: str = "sample_id"
    suffixes: tuple[str, ...] = (".csv", ".tsv", ".tab")

    expected: ClassVar[str] = "wide table"
    axis_unit: ClassVar[str] = ""
    intensity_unit: ClassVar[str] = ""
    names_samples_itself: ClassVar[bool] = True
    one_scan_a_file: ClassVar[bool] = False
    modules: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()

    def can_read(self, name: str) -> bool:
        """Whether a file is such a table by its name."""
        return name.lower().endswith(self.suffixes)

    def parts(self, path: Path) -> list[Path]:
        """The file alone."""
        return [path]

    def read(self, file: SourceFile) -> Iterator[RawScan]:
        """Read a row at a time."""
        rows = read_rows(file.path)
        _, header = next(rows)
        columns = _Columns(header, self.sample_column, file.name)
        for number, cells in rows:
            yield columns.scan(cells, f"{file.name}, row {number}")


class _Columns:
    """What a table's columns are."""

    def __init__(self, header: Sequence[str], sample_column: str, where: str) -> None:
        matched = [(index, POINT.fullmatch(name)) for index, name in enumerate(header)]
        self.points = [index for index, match in matched if match]
        self.axis = np.array([float(match["number"]) for _, match in matched if match])
        others = {header[index]: index for index, match in matched if not match}
        commas = [name for name in header if DECIMAL_COMMA.fullmatch(name)]
        if commas:
            raise CohortError(
                f"{where}: column {commas[0]!r} has a decimal comma; write decimals with a point"
            )
        if not self.points:
            raise CohortError(
                f"{where}: no column is called by a number, as the points of the axis are (a row a "
                f"scan was expected; columns: {', '.join(list(header)[:5])}, ...)"
            )
        if sample_column not in others:
            raise CohortError(
                f"{where} has no column {sample_column!r} of samples' names"
                f"{nearest(sample_column, others)}; choose with --sample-column"
            )
        self.names = [header[index] for index in self.points]
        self.sample = others.pop(sample_column)
        self.scan_name = others.pop(SCAN, None)
        self.others = others

    def scan(self, cells: Sequence[Any], where: str) -> RawScan:
        """A row as a scan."""
        sample_id = cell_text(cells[self.sample])
        if not sample_id:
            raise CohortError(f"{where} names no sample")
        return RawScan(
            sample_id=sample_id,
            scan="0" if self.scan_name is None else cell_text(cells[self.scan_name]),
            mz=self.axis,
            intensity=self._intensities(cells, where),
            where=f"{where} (sample {sample_id!r})",
            columns={name: cell_text(cells[index]) for name, index in self.others.items()},
        )

    def _intensities(self, cells: Sequence[Any], where: str) -> np.ndarray:
        given = [cells[index] for index in self.points]
        try:
            # None would become NaN, which a table may not mean.
            if None not in given:
                return np.array(given, dtype=np.float64)
        except (ValueError, TypeError):
            pass  # one of them is no number: which one is looked for below
        numbers = []
        for name, cell in zip(self.names, given, strict=True):
            try:
                numbers.append(float(cell))
            except (ValueError, TypeError) as error:
                text = cell_text(cell)
                found = "no value" if text in MISSING_TEXT else repr(text)
                raise CohortError(
                    f"{where}: {found} in column {name!r}; a number was expected"
                    f"{' (write decimals with a point)' if DECIMAL_COMMA.fullmatch(text) else ''}"
                ) from error
        return np.array(numbers)


@dataclass(frozen=True)
class ParquetReader(WideTableReader):
    """The same of Parquet files."""

    suffixes: tuple[str, ...] = (".parquet", ".pq")

    modules: ClassVar[tuple[str, ...]] = ("pyarrow.parquet",)
    packages: ClassVar[tuple[str, ...]] = ("pyarrow",)


@dataclass(frozen=True)
class XlsxReader(WideTableReader):
    """The same of the first sheets of XLSX files."""

    suffixes: tuple[str, ...] = (".xlsx",)

    modules: ClassVar[tuple[str, ...]] = ("openpyxl",)
    packages: ClassVar[tuple[str, ...]] = ("openpyxl",)

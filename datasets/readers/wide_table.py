"""Tables (CSV, Parquet, XLSX) row by row, and wide tables of one scan per row."""

import datetime
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cohort import (
    MISSING_TEXT,
    as_text,
    csv_rows,
    decimal_hint,
    read_header,
    require_file,
)
from datasets.errors import CohortError, nearest, refused
from datasets.readers.reader import RawReader, RawScan, SourceFile, require_package

# The header's number is 1, the first row's 2, as a spreadsheet counts.
Rows = Iterator[tuple[int, Sequence[Any]]]

# Cells of a Parquet table held at once, as Python's own numbers.
BATCH_CELLS = 2**17
# Name of a point's column; R's read.csv and others put a letter before the number, some
# instruments the unit behind it.
POINT = re.compile(
    r"(?:(?:X|mz|m/z)[_ .]?)?(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"(?:[_ ]?(?:nm|cm-1))?",
    re.IGNORECASE,
)
SCAN = "scan"


def read_rows(path: Path) -> Rows:
    """Yield the number and the cells of each row that is not blank, the header first.

    ``path`` ends in .csv, .tsv, .tab, .txt, .parquet, .pq, or .xlsx (first sheet). CohortError
    where it is missing or damaged, a row is not as long as the header, or a name repeated or empty.
    """
    require_file(path)
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise CohortError(f"{path.name} is no table; one of {', '.join(KINDS)} was expected")
    rows = KINDS[kind](path)
    number, header = next(rows, (1, []))
    given = [cell_text(name) for name in header]
    while given and not given[-1]:
        given.pop()  # spreadsheets keep empty columns at the right
    if "" in given:
        raise CohortError(f"{path.name} has a column without a name")
    names = read_header(given, path.name)
    yield number, names
    for number, cells in rows:
        surplus = [cell for cell in cells[len(names) :] if not is_blank(cell)]
        if len(cells) < len(names) or surplus:
            raise CohortError(
                f"{path.name}, row {number}: {len(cells)} fields, {len(names)} were expected from "
                "the header"
            )
        yield number, cells[: len(names)]


def is_blank(cell: Any) -> bool:
    """Whether a cell holds nothing."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def cell_text(cell: Any) -> str:
    """A cell as text: whole numbers without a fraction, dates as ISO, nothing as nothing."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    if isinstance(cell, datetime.date):
        return cell.isoformat()
    return as_text(cell).strip()


def _parquet_rows(path: Path) -> Rows:
    """Rows in batches; a row group is in memory."""
    arrow = require_package("pyarrow", "Parquet")
    parquet = require_package("pyarrow.parquet", "Parquet")
    with (
        refused(f"{path.name} cannot be read as Parquet", arrow.ArrowException, OSError),
        parquet.ParquetFile(path) as file,
    ):
        names = file.schema_arrow.names
        yield 1, names
        number = 1
        size = max(1, BATCH_CELLS // max(1, len(names)))
        for batch in file.iter_batches(batch_size=size, use_threads=False):
            columns = [column.to_pylist() for column in batch.columns]
            for cells in zip(*columns, strict=True):
                number += 1
                yield number, cells


def _xlsx_rows(path: Path) -> Rows:
    excel = require_package("openpyxl", "XLSX")
    damage = (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, SyntaxError)
    with (
        refused(f"{path.name} cannot be read as XLSX", *damage),
        closing(excel.load_workbook(path, read_only=True, data_only=True)) as book,
    ):
        rows = book.worksheets[0].iter_rows(values_only=True)
        for number, cells in enumerate(rows, start=1):
            if not all(is_blank(cell) for cell in cells):
                yield number, cells


KINDS: dict[str, Callable[[Path], Rows]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), lambda path: csv_rows(path, path.name)),
    **dict.fromkeys((".parquet", ".pq"), _parquet_rows),
    ".xlsx": _xlsx_rows,
}


@dataclass(frozen=True)
class WideTableReader(RawReader):
    """Rows of tables, each a scan.

    A column whose name is a number (``1000.5``, also ``X1000.5``, ``mz_1000.5``, ``400nm``) is a
    point of the axis; `sample_column` names the samples. `scan` distinguishes the scans of a
    sample; without it a sample has one row. Every other column describes the sample.
    """

    sample_column: str = "sample_id"
    suffixes: tuple[str, ...] = (".csv", ".tsv", ".tab")

    expected = "wide table"
    names_samples_itself = True

    def read(self, file: SourceFile) -> Iterator[RawScan]:
        """Read a row at a time."""
        rows = read_rows(file.path)
        _, header = next(rows)
        columns = _Columns(header, self.sample_column, file.name)
        for number, cells in rows:
            yield columns.scan(cells, f"{file.name}, row {number}")


class _Columns:
    def __init__(self, header: Sequence[str], sample_column: str, where: str) -> None:
        matched = [(index, POINT.fullmatch(name)) for index, name in enumerate(header)]
        self.points = [index for index, match in matched if match]
        self.axis = np.array([float(match["number"]) for _, match in matched if match])
        others = {header[index]: index for index, match in matched if not match}
        commas = [name for name in header if decimal_hint(name)]
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
        sample_id = cell_text(cells[self.sample])
        if not sample_id:
            raise CohortError(f"{where} names no sample")
        name = "0" if self.scan_name is None else cell_text(cells[self.scan_name])
        intensity = self._intensities(cells, where)
        columns = {name: cell_text(cells[index]) for name, index in self.others.items()}
        about = f"{where} (sample {sample_id!r})"
        return RawScan(sample_id, name, self.axis, intensity, about, columns=columns)

    def _intensities(self, cells: Sequence[Any], where: str) -> np.ndarray:
        numbers = []
        for index, name in zip(self.points, self.names, strict=True):
            try:
                numbers.append(float(cells[index]))
            except (ValueError, TypeError) as error:
                text = cell_text(cells[index])
                found = "no value" if text in MISSING_TEXT else repr(text)
                raise CohortError(
                    f"{where}: {found} in column {name!r}; a number was expected"
                    f"{decimal_hint(text)}"
                ) from error
        return np.array(numbers)


@dataclass(frozen=True)
class ParquetReader(WideTableReader):
    """The same of Parquet files."""

    suffixes: tuple[str, ...] = (".parquet", ".pq")

    modules = ("pyarrow.parquet",)
    packages = ("pyarrow",)


@dataclass(frozen=True)
class XlsxReader(WideTableReader):
    """The same of the first sheets of XLSX files."""

    suffixes: tuple[str, ...] = (".xlsx",)

    modules = ("openpyxl",)
    packages = ("openpyxl",)

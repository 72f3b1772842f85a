"""Rows of a CSV, TSV, Parquet or XLSX file, one after the other."""

from __future__ import annotations

import csv
import datetime
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets.cohort import find_separator, one_line, require_file
from datasets.errors import CohortError
from datasets.readers.optional_package import require_package

# The header's number is 1, the first row's 2, as a spreadsheet counts.
Rows = Iterator[tuple[int, Sequence[Any]]]

# Cells of a Parquet table held at once, as Python's own numbers.
BATCH_CELLS = 2**17


def read_rows(path: Path) -> Rows:
    """Read a table, its header first.

    Args:
        path: A file whose ending says which kind it is: .csv, .tsv, .tab, .txt, .parquet, .pq,
            .xlsx (its first sheet).

    Yields:
        The row's number and its cells; blank rows are passed over.

    Raises:
        CohortError: The file is missing or damaged, a row's length is not the header's, or a
            column's name stands twice or is empty.
    """
    require_file(path)
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise CohortError(f"{path.name} is no table; one of {', '.join(KINDS)} was expected")
    rows = KINDS[kind](path)
    number, header = next(rows, (1, []))
    names = [" ".join(cell_text(name).split()) for name in header]
    while names and not names[-1]:
        names.pop()  # spreadsheets keep empty columns at the right
    if not names:
        raise CohortError(f"{path.name} is empty; a header line was expected")
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            problem = f"more than one column {name!r}" if name else "a column without a name"
            raise CohortError(f"{path.name} has {problem}")
        seen.add(name)
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
    """A cell as text: whole numbers without a fraction, dates as ISO, nothing as nothing.

    Example:
        >>> cell_text(7.0), cell_text(None), cell_text(" a "), cell_text(True)
        ('7', '', 'a', 'True')
    """
    if cell is None:
        return ""
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    if isinstance(cell, datetime.datetime | datetime.date):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, float) and cell != cell:
        return ""
    return str(cell).strip()


def _csv_rows(path: Path) -> Rows:
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=find_separator(header), strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except UnicodeDecodeError as error:
        raise CohortError(
            f"{path.name} is not UTF-8 text (byte {error.object[error.start]:#04x}); save it as "
            "UTF-8"
        ) from error
    except csv.Error as error:
        raise CohortError(f"{path.name} cannot be read as CSV: {one_line(error)}") from error


def _parquet_rows(path: Path) -> Rows:
    """Rows in batches; a format of columns, Parquet has about a row group in memory for them."""
    arrow = require_package("pyarrow", "Parquet")
    parquet = require_package("pyarrow.parquet", "Parquet")
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            yield 1, names
            number = 1
            size = max(1, BATCH_CELLS // max(1, len(names)))
            for batch in file.iter_batches(batch_size=size, use_threads=False):
                columns = [column.to_pylist() for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield number, cells
    except (arrow.ArrowException, OSError) as error:
        raise CohortError(f"{path.name} cannot be read as Parquet: {one_line(error)}") from error


def _xlsx_rows(path: Path) -> Rows:
    excel = require_package("openpyxl", "XLSX")
    broken = (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, SyntaxError)
    try:
        book = excel.load_workbook(path, read_only=True, data_only=True)
        try:
            sheet = book.worksheets[0]
            for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
                if not all(is_blank(cell) for cell in cells):
                    yield number, cells
        finally:
            book.close()
    except broken as error:
        if isinstance(error, CohortError):
            raise
        raise CohortError(f"{path.name} cannot be read as XLSX: {one_line(error)}") from error


KINDS: dict[str, Callable[[Path], Rows]] = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".tab": _csv_rows,
    ".txt": _csv_rows,
    ".parquet": _parquet_rows,
    ".pq": _parquet_rows,
    ".xlsx": _xlsx_rows,
}

"""Tables on disk, read strictly as text: '007' stays '007', and a bad cell is named."""

import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from operator import methodcaller
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.errors import CohortError, nearest, refused

# Spellings of "no value". 'None' is a real category ("no medication") in many cohorts; for labels
# see datasets.cohort.targets.
MISSING_TEXT = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null"})

# Separators of fields, and a number with a decimal comma. Where a header has as many semicolons as
# commas, the commas are decimal ones.
SEPARATORS = "\t;,"
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")

# Largest float32, the type of encoded covariates.
LARGEST_NUMBER = float(np.finfo(np.float32).max)
# Zeros before a number, not after a decimal point.
LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
NO_FRACTION = re.compile(r"(?<=\d)\.0+$")


def require_file(
    path: Path, what: str = "file", is_there: Callable[[Path], bool] = Path.is_file
) -> Path:
    """The path; CohortError where there is no such file, with the nearest one beside it."""
    if is_there(path):
        return path
    entries = path.parent.iterdir() if path.parent.is_dir() else ()
    beside = sorted(entry.name for entry in entries if is_there(entry))
    raise CohortError(f"no {what} {path}{nearest(path.name, beside)}")


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV file (UTF-8, one header line), every cell as text without outer blanks.

    The separator is the most frequent in the header: comma, semicolon or tab. Blank lines are
    skipped. CohortError where it is no such table, or lacks one of ``columns``.
    """
    require_file(path)
    rows = csv_rows(path, str(path))
    header = read_header(next(rows, (1, []))[1], str(path))
    table = _read_plain(path, header)
    if table is None:
        table = pd.DataFrame(_even(rows, len(header), path), columns=header, dtype=object)
    require_columns(table, columns, str(path))
    return table.map(str.strip).astype(object)


def _read_plain(path: Path, header: Sequence[str]) -> pd.DataFrame | None:
    """Read a table without quotes, blank and uneven lines many times as fast; None for others."""
    content = path.read_bytes()
    lines = content.splitlines()
    separator = find_separator(lines[0].decode("utf-8", "replace"))
    of_line = map(methodcaller("count", separator.encode()), lines)
    if b'"' in content or set(of_line) != {len(header) - 1} or not all(map(bytes.strip, lines)):
        return None
    with suppress(ValueError):  # not UTF-8, or no table
        return pd.read_csv(
            io.BytesIO(content),
            sep=separator,
            names=list(header),
            skiprows=1,
            dtype=object,
            na_filter=False,
            encoding="utf-8-sig",
        )
    return None


def _even(rows: Iterable[tuple[int, list[str]]], fields: int, path: Path) -> Iterator[list[str]]:
    for line, row in rows:
        if len(row) != fields:
            raise CohortError(
                f"{path}, line {line}: {len(row)} fields, {fields} were expected from the header"
            )
        yield row


def csv_rows(path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each line that is not blank, and its number; ``name`` is for errors."""
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
        with (
            refused(f"{name} cannot be read as CSV", csv.Error, OSError),
            path.open(encoding="utf-8-sig", newline="") as file,
        ):
            separator = find_separator(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True)
            for row in filter(None, reader):
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise not_utf8(name, error) from error


def not_utf8(name: str, error: UnicodeDecodeError) -> CohortError:
    """The error of a file that is no UTF-8 text."""
    byte = f"{error.object[error.start]:#04x}"
    return CohortError(f"{name} is not UTF-8 text (byte {byte}); save it as UTF-8")


def read_header(cells: Sequence[str], where: str) -> list[str]:
    """The names of a table's columns; CohortError where there is none, or one is repeated."""
    # Spreadsheets break long column names over lines.
    names = [" ".join(name.split()) for name in cells]
    if not names:
        raise CohortError(f"{where} is empty; a header line was expected")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CohortError(f"{where} has more than one column {twice!r}")
    return names


def find_separator(header: str) -> str:
    """The separator of a table, by its first line; quoted text does not count."""
    plain = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=plain.count) if any(map(plain.count, SEPARATORS)) else ","


def require_columns(
    table: pd.DataFrame, columns: Iterable[str], where: str, role: str = "needed column"
) -> None:
    """Check that a table has the columns; ``role`` names their use in the CohortError."""
    for column in columns:
        if column not in table.columns:
            raise CohortError(f"{where} has no {role} {column!r}{nearest(column, table.columns)}")


def is_missing(values: pd.Series) -> np.ndarray:
    """Which cells hold no value."""
    return (values.isna() | values.isin(MISSING_TEXT)).to_numpy(dtype=bool)


def as_text(value: object) -> str:
    """A value as text, a whole number without a fraction."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]


def decimal_hint(text: str) -> str:
    """The end of an error line about a number with a decimal comma; otherwise empty."""
    return " (write decimals with a point)" if DECIMAL_COMMA.fullmatch(text) else ""


def as_numbers(
    values: pd.Series,
    name: str,
    sample_ids: Sequence[str],
    role: str = "numeric covariate",
    otherwise: str = "list the column as categorical",
) -> np.ndarray:
    """A column's cells [N] as float64 [N], NaN where there is no value.

    CohortError where a cell holds no finite number: it names the column's ``role`` and, in
    ``otherwise``, the alternative to mending the cell.
    """
    missing = is_missing(values)
    given = values.astype(object).where(~missing, None)
    numbers = np.asarray(pd.to_numeric(given, errors="coerce"), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~missing & ~(np.abs(numbers) <= LARGEST_NUMBER)
    if bad.any():
        row = int(np.argmax(bad))
        text = str(values.iloc[row])
        raise CohortError(
            f"{role} {name!r}: {text!r} of sample {sample_ids[row]!r} is not a finite number"
            f"{decimal_hint(text)}; mend it or {otherwise}"
        )
    return numbers


def plain_spelling(name: str) -> str:
    """A name without case, blanks, leading zeros, a fraction of zero, and Unicode variants."""
    text = unicodedata.normalize("NFKC", name)
    seen = (letter for letter in text if unicodedata.category(letter) not in ("Cf", "Cc"))
    text = "".join("".join(seen).casefold().split())
    return LEADING_ZEROS.sub("", NO_FRACTION.sub("", text))


def find_spellings(names: Iterable[str]) -> list[list[str]]:
    """Sets of names that differ by spelling only, each sorted."""
    spellings = defaultdict(set)
    for name in names:
        spellings[plain_spelling(name)].add(name)
    return sorted(sorted(found) for found in spellings.values() if len(found) > 1)


def spelled_alike(names: Collection[str], others: Collection[str]) -> tuple[str, str] | None:
    """A name and one of the others that differ by spelling only; None where there are none."""
    other_of = {plain_spelling(name): name for name in others if name not in names}
    alike = ((name, other_of.get(plain_spelling(name))) for name in names if name not in others)
    return next(((name, other) for name, other in alike if other is not None), None)

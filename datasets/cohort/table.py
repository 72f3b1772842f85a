"""Tables on disk, read strictly as text: '007' stays '007', and a bad cell is named."""

import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.errors import CohortError, nearest, refused

# Spellings of "no value". 'None' is a real category ("no medication") in many cohorts; for labels
# see datasets.cohort.targets.
MISSING_TEXT = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null"})

SAMPLES_FILE = "samples.csv"
SCANS_FILE = "scans.csv"
SPECTRA_FILE = "spectra.npy"
AXIS_FILE = "axis.npy"
# A cohort of covariates alone has none of them.
SPECTRAL_FILES = (SCANS_FILE, SPECTRA_FILE, AXIS_FILE)
SAMPLE_ID, SCAN = "sample_id", "scan"
# Separators of fields, and a number with a decimal comma. Where a header has as many semicolons as
# commas, the commas are decimal ones.
SEPARATORS = "\t;,"
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")

# ASCII blanks within a line that str.strip removes.
BLANKS = (b" ", b"\t", b"\v", b"\f", b"\x1c", b"\x1d", b"\x1e", b"\x1f")

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
    with refused(f"{path} cannot be read as CSV", OSError):
        content = path.read_bytes()
    separator = find_separator(content.partition(b"\n")[0].decode("utf-8", "replace"))
    table = _read_simple(content, separator)
    if table is None:
        table = _read_any(content, path, separator)
    require_columns(table, columns, str(path))
    return table


def find_separator(header: str) -> str:
    """The separator of a table, by its first line; quoted text does not count."""
    plain = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=plain.count) if any(map(plain.count, SEPARATORS)) else ","


def _read_simple(content: bytes, separator: str) -> pd.DataFrame | None:
    """Read a table of plain cells fast; None where anything is unusual.

    That is a quote, a blank line, a row of another length, ...: :func:`_read_any` reads all tables.
    """
    line_ends = content.count(b"\n") + (not content.endswith(b"\n"))
    carriage_returns = content.count(b"\r") - content.count(b"\r\n")
    if carriage_returns or b'"' in content or b"\0" in content:
        return None
    try:
        first = content.partition(b"\n")[0].decode("utf-8-sig")
        header = [" ".join(name.split()) for name in first.split(separator)]
        if not first.strip() or len(set(header)) < len(header):
            return None
        table: pd.DataFrame = pd.read_csv(
            io.BytesIO(content),
            sep=separator,
            names=header,
            skiprows=1,
            dtype=object,
            na_filter=False,
            encoding="utf-8-sig",
        )
    except ValueError:  # not UTF-8, or no table
        return None
    # A row that is too long becomes an index or an error; too short ones lack commas.
    commas = content.count(separator.encode()) - len(header) + 1
    if (
        not isinstance(table.index, pd.RangeIndex)
        or len(table) != line_ends - 1
        or commas != len(table) * (len(header) - 1)
    ):
        return None
    if not content.isascii() or any(blank in content for blank in BLANKS):
        for name in header:
            table[name] = pd.Series([cell.strip() for cell in table[name]], dtype=object)
    return table


def _read_any(content: bytes, path: Path, separator: str) -> pd.DataFrame:
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise CohortError(
            f"{path} is not UTF-8 text (byte {error.object[error.start]:#04x} at {error.start}); "
            "save it as UTF-8"
        ) from error
    rows = []
    with refused(f"{path} cannot be read as CSV", csv.Error):
        reader = csv.reader(text, delimiter=separator, strict=True)
        # Spreadsheets break long column names over lines.
        header = [" ".join(name.split()) for name in next(reader, [])]
        for row in filter(None, reader):
            if len(row) != len(header):
                raise CohortError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, "
                    f"{len(header)} were expected from the header"
                )
            rows.append([cell.strip() for cell in row])
    if not header:
        raise CohortError(f"{path} is empty; a header line was expected")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise CohortError(f"{path} has more than one column {twice!r}")
    return pd.DataFrame(rows, columns=header, dtype=object)


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

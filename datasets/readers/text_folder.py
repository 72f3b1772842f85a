"""A folder of text files of two columns: the axis and the intensities; a file is a scan."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datasets.cohort import decimal_hint, not_utf8
from datasets.errors import CohortError
from datasets.readers.reader import RawReader, RawScan, SourceFile

SUFFIXES = (".txt", ".csv", ".tsv", ".tab", ".dat", ".xy", ".asc")
COMMENTS = ("#", "%", ";", "//")
# A field that reads like a number, although float() may not take it: 400.0, <0.1, 12%.
NUMBER_LIKE = re.compile(
    r"[<>~=\u2264\u2265\u2248\u2212+-]*(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?\W*", re.IGNORECASE
)
# Quotes and brackets that a number may stand in.
OPENING = "\"'`([{\u201c\u2018\u00ab"
SEPARATOR = re.compile(r"\s*[,;\t]\s*|\s+")


@dataclass(frozen=True)
class TextReader(RawReader):
    """Text files of two numbers a line, separated by blanks, tab, comma or semicolon.

    ``#``, ``%``, ``;``, ``//`` begin comments; one line of column names, no numbers, may come
    first. A file is a scan, and a sample unless --sample-from says otherwise.
    """

    expected = f"text file ({', '.join('*' + suffix for suffix in SUFFIXES)})"
    suffixes = SUFFIXES
    one_scan_a_file = True

    def read(self, file: SourceFile) -> Iterator[RawScan]:
        """Read the one scan."""
        numbers = _numbers(file)
        yield RawScan(file.path.stem, "0", numbers[:, 0], numbers[:, 1], file.name)


def _numbers(file: SourceFile) -> np.ndarray:
    """The file's two columns, float64 [n, 2]."""
    pairs: list[tuple[float, float]] = []
    heading = 0  # the line of column names, where there is one
    try:
        with file.path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                text = line.strip()
                if not text or text.startswith(COMMENTS):
                    continue
                try:
                    x, y = map(float, SEPARATOR.split(text))
                except ValueError as error:
                    fields = re.split(r"[,;\s]+", text)
                    is_data = any(NUMBER_LIKE.fullmatch(field.lstrip(OPENING)) for field in fields)
                    if pairs or heading or is_data:
                        hints = map(decimal_hint, re.split(r"[;\s]+", text))
                        raise CohortError(
                            f"{file.name}, line {number}: {text[:40]!r}; two numbers were expected"
                            f"{next(filter(None, hints), '')}"
                        ) from error
                    heading = number
                    continue
                pairs.append((x, y))
    except UnicodeDecodeError as error:
        raise not_utf8(file.name, error) from error
    if not pairs:
        raise CohortError(f"{file.name} holds no line of two numbers")
    return np.array(pairs, dtype=np.float64)

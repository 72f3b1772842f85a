"""Readers of raw files, one a format, each an iterator of scans that never holds a whole file."""

from __future__ import annotations

from collections.abc import Callable

from datasets.raw.bruker_flex import BrukerFlexReader
from datasets.raw.imzml import ImzmlReader
from datasets.raw.mzml import MzmlReader
from datasets.raw.npz import NpzReader
from datasets.raw.reader import RawReader
from datasets.raw.scan import RawScan
from datasets.raw.source_files import SourceFile
from datasets.raw.text_folder import TextReader
from datasets.raw.wide_table import ParquetReader, WideTableReader, XlsxReader

# Format -> what makes its reader; their parameters are the formats' settings.
READERS: dict[str, Callable[..., RawReader]] = {
    "mzml": MzmlReader,
    "imzml": ImzmlReader,
    "bruker": BrukerFlexReader,
    "csv": WideTableReader,
    "parquet": ParquetReader,
    "xlsx": XlsxReader,
    "text": TextReader,
    "npz": NpzReader,
}

__all__ = ["READERS", "RawReader", "RawScan", "SourceFile"]

"""Readers of raw instrument files: one per format, each an iterator of scans."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.readers.reader import (
        Naming,
        RawReader,
        RawScan,
        SourceFile,
        is_archive,
        list_files,
        require_package,
        unpack,
    )
    from datasets.readers.registry import READERS
    from datasets.readers.wide_table import POINT, cell_text, read_rows
else:
    __getattr__ = lazy_exports(__name__, __file__)

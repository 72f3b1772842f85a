"""Readers of raw instrument files: one per format, each an iterator of scans."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.readers.naming import Naming
    from datasets.readers.optional_package import require_package
    from datasets.readers.reader import RawReader
    from datasets.readers.registry import READERS
    from datasets.readers.scan import RawScan
    from datasets.readers.source_files import (
        SourceFile,
        is_archive,
        list_files,
        require_source,
        unpack,
    )
    from datasets.readers.table_rows import cell_text, read_rows
else:
    __getattr__ = lazy_exports(__name__, __file__)

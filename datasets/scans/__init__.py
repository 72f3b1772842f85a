"""Reading scans from memory-mapped arrays into buffers."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.scans.reader import BUFFERS, CHUNK_BYTES, ScanReader, iterate_chunks
    from datasets.scans.scan_rows import RaggedRows, SampleRuns
else:
    __getattr__ = lazy_exports(__name__, __file__)

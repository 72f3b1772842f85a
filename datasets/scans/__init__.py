"""Reading scans from memory-mapped arrays into buffers."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.scans.buffers import BUFFERS
    from datasets.scans.chunks import CHUNK_BYTES, iterate_chunks
    from datasets.scans.ragged_rows import RaggedRows
    from datasets.scans.reader import ScanReader
    from datasets.scans.runs import SampleRuns
else:
    __getattr__ = lazy_exports(__name__, __file__)

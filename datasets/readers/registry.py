"""The readers by format."""

from datasets.readers.bruker_flex import BrukerFlexReader
from datasets.readers.imzml import ImzmlReader
from datasets.readers.mzml import MzmlReader
from datasets.readers.npz import NpzReader
from datasets.readers.reader import RawReader
from datasets.readers.text_folder import TextReader
from datasets.readers.wide_table import ParquetReader, WideTableReader, XlsxReader

# Format -> its reader, whose fields are the format's settings.
READERS: dict[str, type[RawReader]] = {
    "mzml": MzmlReader,
    "imzml": ImzmlReader,
    "bruker": BrukerFlexReader,
    "csv": WideTableReader,
    "parquet": ParquetReader,
    "xlsx": XlsxReader,
    "text": TextReader,
    "npz": NpzReader,
}

"""The readers by format."""

# Format -> the dotted path of its reader, whose fields are the format's settings.
READERS = {
    "mzml": "datasets.readers.mzml.MzmlReader",
    "imzml": "datasets.readers.imzml.ImzmlReader",
    "bruker": "datasets.readers.bruker_flex.BrukerFlexReader",
    "csv": "datasets.readers.wide_table.WideTableReader",
    "parquet": "datasets.readers.wide_table.ParquetReader",
    "xlsx": "datasets.readers.wide_table.XlsxReader",
    "text": "datasets.readers.text_folder.TextReader",
    "npz": "datasets.readers.npz.NpzReader",
}

"""Samples and batches of scans, covariates and targets."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.batches.batch import Batch, PackedBatch, packed_collate, pad_collate
    from datasets.batches.samples import LazyBatch, Sample, first_rows, lay_out
else:
    __getattr__ = lazy_exports(__name__, __file__)

"""The dataset of scans, its samplers and its data loader."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.loading.loader import make_loader, start_worker
    from datasets.loading.samplers import BucketBatchSampler, EpochBatchSampler, PlannedBatchSampler
    from datasets.loading.spectra_dataset import CACHE_LIMIT_BYTES, SpectraDataset
else:
    __getattr__ = lazy_exports(__name__, __file__)

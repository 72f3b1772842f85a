"""Where transformed scans are kept: in memory, on disk, or nowhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cohort import ChecksumCache, Cohort
from datasets.loading import CACHE_LIMIT_BYTES
from datasets.transform_cache import GIB, NoRoomError, TransformedScans, transformed_scans
from datasets.transforms import Compose, Transform
from experiments.config import DataConfig

# Of the folder for what can be made again.
FOLDER = "transformed"


@dataclass(frozen=True, eq=False)
class ScanStore:
    """What data sets read their scans from.

    Attributes:
        spectra: The cohort's [N_scans, L], or those that are transformed already.
        transforms: What is still to be done with them.
        in_memory: Whether data sets keep what they have transformed.
        on_disk: The transformed scans, where they are there.
    """

    spectra: np.ndarray
    transforms: Transform | None
    in_memory: bool
    on_disk: TransformedScans | None = None

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Where rows of the cohort's spectra stand in these."""
        return rows if self.on_disk is None else self.on_disk.places(rows)

    def dataset_options(self) -> dict[str, Any]:
        """Keyword arguments for :class:`~datasets.loading.SpectraDataset`."""
        return {
            "transforms": self.transforms,
            "cache": self.in_memory,
            "cache_limit": sys.maxsize,
        }


def store_scans(
    settings: DataConfig,
    cohort: Cohort,
    transforms: Compose,
    fingerprint: str,
    folder: Path,
    memory: ChecksumCache,
) -> ScanStore:
    """Decide where transformed scans are kept, and put them there if that is on disk.

    Args:
        settings: Say so (``cache``).
        cohort: As it was read.
        transforms: Fitted.
        fingerprint: The SHA-256 of the file of the spectra.
        folder: For what can be made again.
        memory: Of large files that were found sound.

    Raises:
        UsageError: The disk was asked for and cannot hold them.
    """
    rows = np.concatenate(cohort.scan_rows)
    points = cohort.spec_len if transforms.spec_len is None else transforms.spec_len
    size = len(np.unique(rows)) * points * np.dtype(np.float32).itemsize
    where = settings.cache
    if where == "auto":
        where = "memory" if size <= CACHE_LIMIT_BYTES else "disk"
    if where == "disk" and transforms.transforms:
        try:
            kept = transformed_scans(
                cohort.spectra,
                rows,
                transforms,
                fingerprint,
                folder / FOLDER,
                memory=memory,
                limit_bytes=int(settings.cache_limit_gib * GIB),
                say=_say,
            )
            return ScanStore(kept.spectra, None, in_memory=False, on_disk=kept)
        except NoRoomError as error:
            if settings.cache == "disk":
                raise
            _say(f"{error}: they are transformed at each access")
    # Without transforms the cohort's own file serves as well as a copy of it.
    return ScanStore(cohort.spectra, transforms, in_memory=where == "memory")


def _say(line: str) -> None:
    print(line, flush=True)  # at once: what follows may take minutes

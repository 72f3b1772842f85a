"""A cohort's files in memory, for a fault to be put into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


@dataclass
class Files:
    """A cohort's files in memory; a fault changes them at will."""

    samples: pd.DataFrame
    scans: pd.DataFrame
    spectra: np.ndarray
    axis: np.ndarray

    @property
    def is_case(self) -> np.ndarray:
        """Which samples are cases, [N]."""
        return (self.samples["label"] == "case").to_numpy()

    @property
    def owner(self) -> np.ndarray:
        """The sample of each scan, [M]."""
        return pd.Index(self.samples["sample_id"]).get_indexer(self.scans["sample_id"])

    @property
    def is_case_scan(self) -> np.ndarray:
        """Which scans are of cases, [M]."""
        return self.is_case[self.owner]

    def keep(self, samples: np.ndarray) -> None:
        """Keep some samples, in the order given, and their scans in that order."""
        self.samples = self.samples.iloc[samples].reset_index(drop=True)
        place = pd.Index(self.samples["sample_id"]).get_indexer(self.scans["sample_id"])
        rows = np.argsort(place, kind="stable")[(place < 0).sum() :]
        self.scans = self.scans.iloc[rows].reset_index(drop=True)
        self.spectra = self.spectra[rows]


Fault = Callable[[Files], Any]


def write_cohort(clean_root: Path, root: Path, fault: Fault | None = None) -> Path:
    """Write a clean cohort anew with a fault.

    Args:
        clean_root: The clean cohort.
        root: Where to.
        fault: Changes the files; None leaves them as they are.

    Returns:
        ``root``.
    """
    files = Files(
        pd.read_csv(clean_root / "samples.csv"),
        pd.read_csv(clean_root / "scans.csv"),
        np.load(clean_root / "spectra.npy"),
        np.load(clean_root / "axis.npy"),
    )
    if fault is not None:
        fault(files)
    root.mkdir(exist_ok=True)
    files.samples.to_csv(root / "samples.csv", index=False)
    files.scans.to_csv(root / "scans.csv", index=False)
    np.save(root / "spectra.npy", files.spectra.astype(np.float32))
    np.save(root / "axis.npy", files.axis)
    (root / "cohort.yaml").write_text((clean_root / "cohort.yaml").read_text())
    return root

"""A clean simulated cohort, and the same with one fault put into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datasets.audit import audit
from datasets.audit.findings import Finding
from datasets.cohort import Cohort
from datasets.simulate import simulate_cohort
from datasets.split import make_split

PATIENTS, POINTS = 200, 256


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


@pytest.fixture(scope="session")
def clean_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audit") / "clean"
    return simulate_cohort(root, 11, n_samples=PATIENTS, spec_len=POINTS, max_scans=3).root


@pytest.fixture
def make_cohort(clean_root: Path, tmp_path: Path) -> Callable[..., Cohort]:
    """Write and read the cohort with a fault: ``make_cohort(fault, **choices_of_read)``."""

    def make(fault: Fault | None = None, **choices: Any) -> Cohort:
        files = Files(
            pd.read_csv(clean_root / "samples.csv"),
            pd.read_csv(clean_root / "scans.csv"),
            np.load(clean_root / "spectra.npy"),
            np.load(clean_root / "axis.npy"),
        )
        if fault is not None:
            fault(files)
        root = tmp_path / "cohort"
        root.mkdir(exist_ok=True)
        files.samples.to_csv(root / "samples.csv", index=False)
        files.scans.to_csv(root / "scans.csv", index=False)
        np.save(root / "spectra.npy", files.spectra.astype(np.float32))
        np.save(root / "axis.npy", files.axis)
        (root / "cohort.yaml").write_text((clean_root / "cohort.yaml").read_text())
        if "label" not in choices:
            choices["labels"] = {"control": 0, "case": 1}
        return Cohort.read(root, **choices)

    return make


@pytest.fixture
def find(make_cohort: Callable[..., Cohort]) -> Callable[..., dict[str, Finding]]:
    """Audit the cohort with a fault and a drawn split; the findings by name."""

    def look(fault: Fault | None = None, **choices: Any) -> dict[str, Finding]:
        cohort = make_cohort(fault, **choices)
        split = make_split(cohort.targets, cohort.groups, seed=1)
        label, group = choices.get("label"), choices.get("group")
        return {found.name: found for found in audit(cohort, split, label=label, group=group)}

    return look


@pytest.fixture
def grave(find: Callable[..., dict[str, Finding]]) -> Callable[..., dict[str, str]]:
    """The same, without the notes: name -> level."""

    def look(fault: Fault | None = None, **choices: Any) -> dict[str, str]:
        found = find(fault, **choices).values()
        return {one.name: one.level for one in found if one.level != "note"}

    return look

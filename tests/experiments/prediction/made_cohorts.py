"""Cohorts to train on and to predict: small, and changed in one way."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.simulation import simulate_cohort

SPECTRAL_FILES = ("scans.csv", "spectra.npy", "axis.npy")


def make_tasks(root: Path) -> Path:
    """Sixty simulated samples of 64 points, with columns for all tasks."""
    simulate_cohort(root, 3, n_samples=60, spec_len=64, max_scans=3)
    samples, truth = pd.read_csv(root / "samples.csv"), pd.read_csv(root / "truth.csv")
    samples["risk"] = truth["both"]
    samples["diseased"] = (samples["label"] == "case").astype(int)
    samples["heavy"] = (samples["BMI"].fillna(25) > samples["BMI"].median()).astype(int)
    samples["stage"] = pd.qcut(truth["both"], 3, labels=["low", "middle", "high"])
    samples.to_csv(root / "samples.csv", index=False)
    return root


def read_samples(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "samples.csv", dtype=str, keep_default_na=False)


def take(root: Path, out: Path, samples: Collection[str]) -> Path:
    """A cohort of some of another one's samples."""
    out.mkdir(parents=True)
    table = read_samples(root)
    table[table["sample_id"].isin(samples)].to_csv(out / "samples.csv", index=False)
    scans = pd.read_csv(root / "scans.csv", dtype=str)
    kept = scans["sample_id"].isin(samples).to_numpy()
    scans[kept].to_csv(out / "scans.csv", index=False)
    np.save(out / "spectra.npy", np.load(root / "spectra.npy")[kept])
    for name in ("axis.npy", "cohort.yaml"):
        if (root / name).is_file():
            shutil.copy(root / name, out)
    return out


def held_out(root: Path, run_dir: Path, out: Path) -> Path:
    """The cohort of a run's test set."""
    splits = pd.read_csv(run_dir / "splits.csv", dtype=str)
    return take(root, out, set(splits.loc[splits["split"] == "test", "sample_id"]))


def change_samples(root: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(read_samples(root)).to_csv(root / "samples.csv", index=False)


def change_axis(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(root / "axis.npy", change(np.load(root / "axis.npy")))


def set_unit(root: Path, of: str, unit: str) -> None:
    path = root / "cohort.yaml"
    path.write_text(re.sub(rf"^  {of}: [^\n-].*$", f"  {of}: {unit}", path.read_text(), flags=re.M))


def leave_out_spectra(root: Path) -> None:
    for name in SPECTRAL_FILES:
        (root / name).unlink()


# The seven that no model predicts, and a part of the line on each.
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "axis": (
        lambda root: change_axis(root, lambda axis: axis + 1000),
        "does not cover the model's",
    ),
    "unit": (
        lambda root: set_unit(root, "CRP", "mg/dl"),
        "the unit of CRP is mg/dl, but the model's is mg/L",
    ),
    "column": (
        lambda root: change_samples(root, lambda table: table.rename(columns={"age": "years"})),
        "no covariate 'age'",
    ),
    "category": (
        lambda root: change_samples(root, lambda table: table.assign(sex="unknown")),
        "a category that the model does not know (choices: F, M)",
    ),
    "empty": (lambda root: change_samples(root, lambda table: table[:0]), "has no rows"),
    "one modality": (leave_out_spectra, "has no spectra"),
    "labels": (
        lambda root: change_samples(root, lambda table: table.assign(label="sepsis")),
        "'sepsis' of 'label'",
    ),
}

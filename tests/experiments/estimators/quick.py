"""Estimators that are trained in a tenth of a second."""

from __future__ import annotations

from typing import Any

import numpy as np

from datasets.cohort import Cohort
from experiments.estimators import CohortArrays

# Of a few features in no order, as scikit-learn's checks have them: no neighbours to move them to.
PLAIN: dict[str, Any] = {
    "data.transforms": ["standardize"],
    "data.augmentations": [],
    "optimizer.lr": 0.05,
    "trainer.batch_size": 32,
    "trainer.device": "cpu",
    "ema.decay": None,
}
QUICK: dict[str, Any] = {
    "config": "spectra_only",
    "model": "mean_linear",
    "settings": PLAIN,
    "max_epochs": 12,
}


def matrix(samples: int = 40, points: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Mean spectra [N, L], and classes 0 and 1 that one point tells apart."""
    rng = np.random.default_rng(0)
    spectra = rng.random((samples, points)) + 0.1
    return spectra, (spectra[:, 3] > np.median(spectra[:, 3])).astype(int)


def as_arrays(cohort: Cohort) -> CohortArrays:
    """A cohort's samples, padded with NaN."""
    counts = [len(rows) for rows in cohort.scan_rows]
    mask = np.arange(max(counts)) < np.array(counts)[:, None]
    spectra = np.full((*mask.shape, cohort.spec_len), np.nan, dtype=np.float32)
    for number, rows in enumerate(cohort.scan_rows):
        spectra[number, : len(rows)] = cohort.spectra[rows]
    covariates = cohort.samples[[*cohort.numeric, *cohort.categorical]]
    return CohortArrays(spectra, mask, covariates, cohort.groups, cohort.axis)

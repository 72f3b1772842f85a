"""New scans on a model's axis, before its transforms change their intensities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from experiments.prediction.fitted import NewCohort
    from experiments.prediction.loaded_model import LoadedModel


def placed_scans(model: LoadedModel, new: NewCohort, rows: np.ndarray) -> np.ndarray:
    """Each sample's mean scan on the model's axis, before the transforms change it; [n, L]."""
    transforms, cohort = model.fitted.transforms, new.cohort
    found = np.zeros((len(rows), transforms.spec_len or 0), dtype=np.float32)
    if "spectra" in new.absent:
        return found
    for place, row in enumerate(rows):
        scans = np.asarray(cohort.spectra[cohort.scan_rows[row]], dtype=np.float32)
        scans = scans if new.axis_map is None else new.axis_map(scans)
        found[place] = transforms.place(scans).mean(axis=0)
    return found

"""A short summary of the training set, kept beside the weights: new cohorts are held against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from datasets.cohort import as_text, is_missing
from engine.metrics import CLASSES
from experiments.analysis.reference import Groups, Reference, Share, as_plain
from experiments.analysis.spectral_summary import SpectralSummary

if TYPE_CHECKING:
    from datasets.covariates import CovariateEncoder
    from engine.metrics import EpochOutputs
    from experiments.builders import Data

# Mean scans that components are computed from, and values that are read for them.
MOST_SAMPLES, FEWEST_SAMPLES, MOST_READ = 2000, 100, 10**8


@dataclass(frozen=True)
class TrainingSummary:
    """What the training samples are like.

    ``numbers`` are of numeric covariates, those of ``log`` after log1p; ``missing`` the shares
    without a value; ``categories`` those of each category; ``predicted`` the share of each class or
    label that is predicted on the validation set, or the predicted values; empty without one.
    """

    log: Sequence[str]
    numbers: Mapping[str, Reference]
    missing: Mapping[str, Share]
    categories: Mapping[str, Mapping[str, Share]]
    predicted: Mapping[str, Reference | Share]
    spectra: SpectralSummary | None

    def state_dict(self) -> dict[str, object]:
        """Tensors and plain types."""
        return {
            "log": list(self.log),
            "numbers": {name: as_plain(found) for name, found in self.numbers.items()},
            "missing": {name: as_plain(found) for name, found in self.missing.items()},
            "categories": {
                name: {kind: as_plain(found) for kind, found in kinds.items()}
                for name, kinds in self.categories.items()
            },
            "predicted": {name: as_plain(found) for name, found in self.predicted.items()},
            "spectra": None if self.spectra is None else self.spectra.state_dict(),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> TrainingSummary:
        """The inverse of :meth:`state_dict`."""
        spectra = state["spectra"]
        return cls(
            log=state["log"],
            numbers={name: Reference(**of) for name, of in state["numbers"].items()},
            missing={name: Share(**of) for name, of in state["missing"].items()},
            categories={
                name: {kind: Share(**of) for kind, of in kinds.items()}
                for name, kinds in state["categories"].items()
            },
            predicted={
                name: Reference(**of) if "values" in of else Share(**of)
                for name, of in state["predicted"].items()
            },
            spectra=None if spectra is None else SpectralSummary.from_state_dict(spectra),
        )


def summarise_training(data: Data, val: EpochOutputs | None = None) -> TrainingSummary:
    """Of the samples that are trained on; ``val`` are the outputs on the validation set."""
    trained = data.trained
    table, groups = data.cohort.samples[trained], data.cohort.groups[trained]
    predicted: dict[str, Reference | Share] = {}
    if val is not None and not val.diverged:
        of_val = data.groups_of(val.sample_id)
        for name, values in predicted_values(val, data.cohort.class_names):
            found = (
                Share.of(values, of_val) if values.dtype == bool else Reference.of(values, of_val)
            )
            if found is not None:
                predicted[name] = found
    return summarise(table, groups, data.encoder, predicted, _summarise_spectra(data))


def summarise(
    table: pd.DataFrame,
    groups: Groups,
    encoder: CovariateEncoder,
    predicted: Mapping[str, Reference | Share],
    spectra: SpectralSummary | None,
) -> TrainingSummary:
    """Of the covariates in a table of training samples, and what is known beside them."""
    numbers, missing, categories = {}, {}, {}
    for name in encoder.numeric:
        values = number_values(table, name, encoder.log)
        missing[name] = Share.of(np.isnan(values), groups)
        found = Reference.of(values, groups)
        if found is not None:
            numbers[name] = found
    for name in encoder.categorical:
        kinds, unknown = category_values(table, name)
        missing[name] = Share.of(unknown, groups)
        categories[name] = {
            kind: Share.of(kinds == kind, groups) for kind in sorted(set(kinds[~unknown].tolist()))
        }
    return TrainingSummary(encoder.log, numbers, missing, categories, predicted, spectra)


def number_values(table: pd.DataFrame, name: str, log: Sequence[str]) -> np.ndarray:
    """A numeric covariate, [N], after log1p where that is how the model takes it."""
    values = table[name].to_numpy(dtype=np.float64)
    return np.log1p(values) if name in log else values


def category_values(table: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A categorical covariate as text, and where it is missing, bool; [N] each."""
    values = table[name]
    return values.astype(object).map(as_text).to_numpy(dtype=str), np.asarray(is_missing(values))


def predicted_values(
    outputs: EpochOutputs, names: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """What is predicted, [N]: bool of the positive class, each class or label, or a value."""
    predictions = outputs.predictions.numpy()
    first = 1 if outputs.task == "binary" else 0
    for number, name in enumerate(names[first:], start=first):
        if outputs.task in CLASSES:
            yield name, predictions == number
        else:
            own = predictions[:, number]
            yield name, own if outputs.task == "regression" else own > 0


def _summarise_spectra(data: Data) -> SpectralSummary | None:
    cohort = data.cohort
    if not cohort.has_spectra:
        return None
    rows = np.flatnonzero(data.trained)
    per_sample = np.mean([len(cohort.scan_rows[row]) for row in rows]) * cohort.spec_len
    most = int(np.clip(MOST_READ // per_sample, FEWEST_SAMPLES, MOST_SAMPLES))
    drawn = data.draw(most, seed=0)
    placed = np.stack(
        [
            data.transforms.place(np.asarray(cohort.spectra[cohort.scan_rows[row]])).mean(axis=0)
            for row in rows[drawn]
        ]
    )
    transformed = data.datasets["train"].mean_scans(drawn)
    return SpectralSummary.of(transformed, placed, cohort.groups[rows[drawn]])

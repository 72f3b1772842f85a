"""Samples with peaks and covariates, drawn alike unless something is changed on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from datasets.covariates import CovariateEncoder
from experiments.analysis import Share, SpectralSummary, TrainingSummary, summarise
from experiments.prediction import Drift, DriftCheck, SpectraMeasures

POINTS, PEAKS = 512, 12
CENTRES = np.linspace(30, POINTS - 30, PEAKS)
ENCODER = CovariateEncoder(["age", "AFP"], ["sex"], log=["AFP"])


@dataclass
class Made:
    """N samples: covariates, groups, mean spectra [N, L] and what is predicted."""

    table: pd.DataFrame
    groups: np.ndarray
    spectra: np.ndarray
    predicted: Mapping[str, np.ndarray]


def make_samples(rng, samples, shift=0.0, gone=(), rate=0.4, per_group=1, plate=0.0, batch=None):
    """Draw samples; ``plate`` is how far the spectra of a group are apart from others."""
    x = np.arange(POINTS)
    groups = np.arange(samples) // per_group
    heights = rng.lognormal(0, 0.4, (samples, PEAKS))
    heights *= np.exp(plate * rng.normal(size=(groups[-1] + 1, PEAKS)))[groups]
    heights[:, list(gone)] *= 0.03
    jitter = rng.normal(0, 0.3, (samples, 1))
    spectra = 0.3 + 0.05 * rng.normal(size=(samples, POINTS))
    for number, centre in enumerate(CENTRES):
        spectra += heights[:, [number]] * np.exp(-0.5 * ((x - centre - shift - jitter) / 3) ** 2)
    if batch is not None:
        spectra += batch
    table = pd.DataFrame(
        {
            "age": rng.normal(60, 10, samples).round(),
            "AFP": rng.lognormal(2, 1.5, samples),
            "sex": rng.choice(["f", "m"], samples),
        }
    )
    table.loc[rng.random(samples) < 0.1, "AFP"] = np.nan
    rates = {"case": rng.random(samples) < rate}
    return Made(table, groups.astype(str), spectra.astype(np.float32), rates)


def summarised(made: Made) -> TrainingSummary:
    """The summary of training samples."""
    shares = {name: Share.of(of, made.groups) for name, of in made.predicted.items()}
    spectra = SpectralSummary.of(made.spectra, made.spectra, made.groups)
    return summarise(made.table, made.groups, ENCODER, shares, spectra)


def check_of(summary: TrainingSummary, made: Made) -> tuple[DriftCheck, list[str]]:
    """The check of new samples, and what of each is far outside."""
    assert summary.spectra is not None
    wanted = np.ones(len(made.groups), dtype=bool)
    measures = SpectraMeasures(summary.spectra, wanted)
    outside = measures.add(made.spectra, made.spectra)
    axis = 1000.0 + 2 * np.arange(POINTS)
    check = DriftCheck(summary, made.table, made.groups, axis, "m/z", measures.values())
    return check, check.far_outside(np.arange(len(made.groups)), outside)


def drift_of(summary: TrainingSummary, made: Made) -> Drift:
    """What is found in new samples."""
    return check_of(summary, made)[0].compare(made.predicted)

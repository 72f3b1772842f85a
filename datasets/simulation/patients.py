"""The generating model of the simulated cohort's patients, and the best AUROC it allows.

The label comes first. Given the label, everything informative is an independent Gaussian whose
mean is shifted between the classes by a known number of standard deviations (its effect), so that
the log-likelihood ratio, and with it the best classifier, is known exactly:

- eight disease peaks: the log amplitude of each, whose effects add up to a separation of
  d' = sqrt(sum of effect^2) = 1.99;
- two blood values, GGT (up) and albumin (down): the logarithm of each.

Everything else (age, sex, BMI, CRP, ALT, AST, the plate, what is missing, the other peaks) does not
depend on the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import erf, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CLASSES = ("control", "case")
PREVALENCE = 0.4
PATIENTS_PER_PLATE = 75

# Effects in standard deviations. Those of the peaks have a root sum of squares of 1.99, which is
# an AUROC of Phi(1.99 / sqrt 2) = 0.92; those of the blood values give 0.80 at the missing rate.
DISEASE_PEAK_EFFECTS = (0.84, 0.80, 0.76, 0.72, 0.68, 0.64, 0.60, 0.54)
DISEASE_PEAK_DIRECTIONS = (1, 1, -1, 1, -1, 1, -1, 1)
BLOOD_VALUE_EFFECTS = {"GGT": 0.90, "albumin": -0.90}
MISSING_RATE = 0.10

# Median and standard deviation of the logarithm: close to the ranges of a hospital laboratory.
BLOOD_VALUES = {
    "CRP": (4.0, 0.90),
    "ALT": (27.0, 0.45),
    "AST": (25.0, 0.38),
    "GGT": (32.0, 0.55),
    "albumin": (41.0, 0.11),
}
ALT_AST_CORRELATION = 0.7
AGE_MEAN, AGE_SD, AGE_RANGE = 58.0, 12.0, (18.0, 90.0)
BMI_MEDIAN, BMI_LOG_SD = 25.8, 0.16
MALE_FRACTION = 0.55

NUMERIC = ("age", "BMI", *BLOOD_VALUES)
CATEGORICAL = ("sex",)
UNITS = {
    "age": "years",
    "BMI": "kg/m^2",
    "CRP": "mg/L",
    "ALT": "U/L",
    "AST": "U/L",
    "GGT": "U/L",
    "albumin": "g/L",
}


@dataclass(frozen=True)
class Patients:
    """Drawn patients, with what no real cohort tells: their latent values.

    Attributes:
        case: Whether each patient is a case, bool [N].
        plate: The plate each patient was measured on, int [N].
        covariates: One row a patient, in the units of `UNITS`; NaN where missing.
        disease_latents: Standardised log amplitudes of the disease peaks, float [N, 8]: zero mean
            and unit variance in controls; strongest peak first.
    """

    case: NDArray[np.bool_]
    plate: NDArray[np.int64]
    covariates: pd.DataFrame
    disease_latents: NDArray[np.float64]


def draw_patients(n_samples: int, rng: np.random.Generator) -> Patients:
    """Draw patients from the generating model."""
    case = rng.permutation(np.arange(n_samples) < round(PREVALENCE * n_samples))
    plate = rng.permutation(np.arange(n_samples) % count_plates(n_samples))
    shift = np.multiply(DISEASE_PEAK_EFFECTS, DISEASE_PEAK_DIRECTIONS)
    latents = rng.standard_normal((n_samples, len(shift))) + case[:, None] * shift
    return Patients(case, plate, _draw_covariates(case, rng), latents)


def count_plates(n_samples: int) -> int:
    """Number of plates: at least two, so that there is a batch effect."""
    return max(2, -(-n_samples // PATIENTS_PER_PLATE))


def log_likelihood_ratios(patients: Patients) -> dict[str, NDArray[np.float64]]:
    """Give log p(observed | case) - log p(observed | control) of each patient.

    A Gaussian value u with unit variance and mean 0 in controls, e in cases, has the ratio
    e * (u - e / 2); a missing value is missing whatever the label, and counts 0.

    Returns:
        `covariates`, `spectra` and `both`, float [N] each. `spectra` is of the latent amplitudes
        of the disease peaks, without the noise of measuring them.
    """
    covariates = np.zeros(len(patients.case))
    for name, effect in BLOOD_VALUE_EFFECTS.items():
        median, log_sd = BLOOD_VALUES[name]
        standardised = np.log(patients.covariates[name].to_numpy() / median) / log_sd
        covariates += np.nan_to_num(effect * (standardised - effect / 2), nan=0.0)
    effects = np.multiply(DISEASE_PEAK_EFFECTS, DISEASE_PEAK_DIRECTIONS)
    spectra = (patients.disease_latents - effects / 2) @ effects
    return {"covariates": covariates, "spectra": spectra, "both": covariates + spectra}


def bayes_auroc(missing_rate: float = MISSING_RATE) -> dict[str, float]:
    """The exact best AUROC from `covariates`, `spectra` and `both`, of the generating model.

    With a separation D between the classes, the log-likelihood ratio is Gaussian with variance D^2
    and mean +D^2/2 in cases, -D^2/2 in controls. Missing values change D from patient to patient,
    so that a case with D1 outranks a control with D2 with probability Phi(sqrt(D1^2 + D2^2) / 2),
    averaged over both patterns of missing values. Measuring adds noise, so what a model can reach
    on rendered spectra is a little lower.

    Example:
        >>> {name: round(value, 2) for name, value in bayes_auroc().items()}
        {'covariates': 0.8, 'spectra': 0.92, 'both': 0.95}
    """
    patterns = []
    for seen in product((True, False), repeat=len(BLOOD_VALUE_EFFECTS)):
        chance = np.prod([1 - missing_rate if one else missing_rate for one in seen])
        squares = np.square(list(BLOOD_VALUE_EFFECTS.values()))
        patterns.append((float(chance), float(squares[list(seen)].sum())))
    peaks = float(np.square(DISEASE_PEAK_EFFECTS).sum())

    def averaged(constant: float, varying: float) -> float:
        return sum(
            p1 * p2 * _normal_cdf(sqrt(2 * constant + varying * (d1 + d2)) / 2)
            for (p1, d1), (p2, d2) in product(patterns, repeat=2)
        )

    return {
        "covariates": averaged(0.0, 1.0),
        "spectra": averaged(peaks, 0.0),
        "both": averaged(peaks, 1.0),
    }


def _normal_cdf(x: float) -> float:
    return 0.5 * (1 + erf(x / sqrt(2)))


def _draw_covariates(case: NDArray[np.bool_], rng: np.random.Generator) -> pd.DataFrame:
    n = len(case)
    columns: dict[str, NDArray[np.float64]] = {
        "age": np.clip(np.round(rng.normal(AGE_MEAN, AGE_SD, n)), *AGE_RANGE),
        "BMI": np.round(BMI_MEDIAN * np.exp(BMI_LOG_SD * rng.standard_normal(n)), 1),
    }
    standardised = {name: rng.standard_normal(n) for name in BLOOD_VALUES}
    standardised["AST"] = (
        ALT_AST_CORRELATION * standardised["ALT"]
        + sqrt(1 - ALT_AST_CORRELATION**2) * standardised["AST"]
    )
    for name, (median, log_sd) in BLOOD_VALUES.items():
        shifted = standardised[name] + BLOOD_VALUE_EFFECTS.get(name, 0.0) * case
        values = median * np.exp(log_sd * shifted)
        values[rng.random(n) < MISSING_RATE] = np.nan
        columns[name] = values
    frame = pd.DataFrame(columns)
    frame.insert(1, "sex", np.where(rng.random(n) < MALE_FRACTION, "M", "F"))
    return frame

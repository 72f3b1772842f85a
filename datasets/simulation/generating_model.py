"""The generating model of simulated patients, and the best AUROC that it allows.

The label comes first. Given the label, everything informative is Gaussian with known parameters,
so that the log-likelihood ratio, and with it the best classifier, is known exactly:

- eight disease peaks: the mean log height of each is shifted between the classes by its effect, a
  number of standard deviations. The effects add up to a separation of
  d' = sqrt(sum of effect^2) = 1.99 (`main_effects` 1);
- two blood values, GGT (up) and albumin (down): the logarithm of each, the same;
- two pairs of peaks (`interactions` r): their log heights are correlated by +r in cases, by -r in
  controls. Each peak alone has the same distribution in both classes, and so no linear effect;
- `subtypes` K: a case has one of K subtypes, equally often, which raises three peaks of its own.

Everything else (age, sex, BMI, CRP, ALT, AST, the plate, what is missing, the other peaks) does not
depend on the label.
"""

from dataclasses import dataclass
from itertools import product
from math import erf, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import rankdata

from datasets.simulation.settings import (
    BLOOD_VALUES,
    DEFAULT_SETTINGS,
    KEPT_COVARIATES,
    SimulationSettings,
)

CLASSES = ("control", "case")
PREVALENCE = 0.4
PATIENTS_PER_PLATE = 75

# Effects in standard deviations. Those of the peaks have a root sum of squares of 1.99, which is
# an AUROC of Phi(1.99 / sqrt 2) = 0.92; those of the blood values give 0.80 at the missing rate.
DISEASE_PEAK_EFFECTS = (0.84, 0.80, 0.76, 0.72, 0.68, 0.64, 0.60, 0.54)
DISEASE_PEAK_DIRECTIONS = (1, 1, -1, 1, -1, 1, -1, 1)
BLOOD_VALUE_EFFECTS = {"GGT": 0.90, "albumin": -0.90}
MISSING_RATE = 0.10

N_PAIRS = 2
PEAKS_PER_SUBTYPE, SUBTYPE_EFFECT = 3, 1.3
# Patients of which the best AUROC is measured where no formula is known.
MONTE_CARLO_PATIENTS, MONTE_CARLO_SEED = 400_000, 0

ALT_AST_CORRELATION = 0.7
AGE_MEAN, AGE_SD, AGE_RANGE = 58.0, 12.0, (18.0, 90.0)
BMI_MEDIAN, BMI_LOG_SD = 25.8, 0.16
MALE_FRACTION = 0.55

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

    ``case`` is bool [N], ``plate`` int [N]; ``covariates`` have one row a patient, in the units of
    `UNITS`, NaN where missing. Latents are standardised log heights of peaks, with zero mean and
    unit variance in controls: ``disease_latents`` float [N, 8], strongest peak first,
    ``pair_latents`` [N, Q, 2], ``subtype_latents`` [N, K, 3].
    """

    case: NDArray[np.bool_]
    plate: NDArray[np.int64]
    covariates: pd.DataFrame
    disease_latents: NDArray[np.float64]
    pair_latents: NDArray[np.float64]
    subtype_latents: NDArray[np.float64]


def draw_patients(
    n_samples: int,
    rng: np.random.Generator,
    settings: SimulationSettings = DEFAULT_SETTINGS,
) -> Patients:
    """Draw patients from the generating model."""
    case = rng.permutation(np.arange(n_samples) < round(PREVALENCE * n_samples))
    plate = rng.permutation(np.arange(n_samples) % count_plates(n_samples))
    shift = disease_effects(settings)
    latents = rng.standard_normal((n_samples, len(shift))) + case[:, None] * shift
    covariates = _draw_covariates(case, rng)
    kept = [name for name in covariates if name in KEPT_COVARIATES[settings.covariates]]

    pairs = rng.standard_normal((n_samples, N_PAIRS if settings.interactions else 0, 2))
    r = np.where(case, settings.interactions, -settings.interactions)[:, None]
    pairs[..., 1] = r * pairs[..., 0] + np.sqrt(1 - r**2) * pairs[..., 1]
    subtypes = rng.standard_normal((n_samples, settings.subtypes, PEAKS_PER_SUBTYPE))
    if settings.subtypes:
        subtypes[case, rng.integers(settings.subtypes, size=case.sum())] += SUBTYPE_EFFECT
    return Patients(case, plate, covariates[kept], latents, pairs, subtypes)


def disease_effects(settings: SimulationSettings) -> NDArray[np.float64]:
    """Signed effects of the disease peaks in standard deviations, float [8]."""
    return settings.main_effects * np.multiply(DISEASE_PEAK_EFFECTS, DISEASE_PEAK_DIRECTIONS)


def count_plates(n_samples: int) -> int:
    """Number of plates: at least two, so that there is a batch effect."""
    return max(2, -(-n_samples // PATIENTS_PER_PLATE))


def log_likelihood_ratios(
    patients: Patients, settings: SimulationSettings = DEFAULT_SETTINGS
) -> dict[str, NDArray[np.float64]]:
    """Give log p(observed | case) - log p(observed | control) of each patient, float [N].

    A Gaussian u of unit variance, mean 0 in controls, e in cases, has the ratio e * (u - e / 2); a
    missing value counts 0. A pair of correlation +r or -r has 2 r u1 u2 / (1 - r^2); K subtypes
    have the logarithm of the mean of their ratios. `spectra` is of latent heights, not measured.
    """
    covariates = np.zeros(len(patients.case))
    for name, effect in BLOOD_VALUE_EFFECTS.items():
        if name in patients.covariates:
            median, log_sd = BLOOD_VALUES[name]
            standardised = np.log(patients.covariates[name].to_numpy() / median) / log_sd
            covariates += np.nan_to_num(effect * (standardised - effect / 2), nan=0.0)
    effects = disease_effects(settings)
    spectra = (patients.disease_latents - effects / 2) @ effects
    r = settings.interactions
    if r:
        spectra += 2 * r / (1 - r**2) * patients.pair_latents.prod(axis=2).sum(axis=1)
    if settings.subtypes:
        ratios = SUBTYPE_EFFECT * (patients.subtype_latents - SUBTYPE_EFFECT / 2).sum(axis=2)
        spectra += logsumexp(ratios, axis=1) - np.log(settings.subtypes)
    return {"covariates": covariates, "spectra": spectra, "both": covariates + spectra}


def auroc_of_ratios(patients: Patients, settings: SimulationSettings) -> dict[str, float]:
    """AUROC of these patients' log-likelihood ratios: of an oracle that sees the latents."""
    ratios = log_likelihood_ratios(patients, settings)
    return {name: _auroc(patients.case, ratio) for name, ratio in ratios.items()}


def _auroc(case: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """From the ranks (Mann-Whitney)."""
    n_cases = int(case.sum())
    wins = rankdata(scores)[case].sum() - n_cases * (n_cases + 1) / 2
    return float(wins / (n_cases * (len(case) - n_cases)))


def has_formula(settings: SimulationSettings) -> bool:
    """Whether the best AUROC is known in closed form."""
    return not (settings.interactions or settings.subtypes)


def bayes_auroc(
    missing_rate: float = MISSING_RATE, settings: SimulationSettings = DEFAULT_SETTINGS
) -> dict[str, float]:
    """The best AUROC from `covariates`, `spectra` and `both`, of the generating model.

    With a separation D between the classes, the log-likelihood ratio is Gaussian with variance D^2
    and mean +D^2/2 in cases, -D^2/2 in controls. Missing values change D from patient to patient,
    so that a case with D1 outranks a control with D2 with probability Phi(sqrt(D1^2 + D2^2) / 2),
    averaged over both patterns of missing values. That is exact. With interactions or subtypes the
    ratio is not Gaussian: its AUROC is then measured on `MONTE_CARLO_PATIENTS` patients
    (`monte_carlo_error`), at the default missing rate.

    Measuring adds noise, so what a model can reach on rendered spectra is a little lower.
    """
    if not has_formula(settings):
        rng = np.random.default_rng(MONTE_CARLO_SEED)
        return auroc_of_ratios(draw_patients(MONTE_CARLO_PATIENTS, rng, settings), settings)
    kept = KEPT_COVARIATES[settings.covariates]
    shifts = [effect for name, effect in BLOOD_VALUE_EFFECTS.items() if name in kept]
    patterns = []
    for seen in product((True, False), repeat=len(shifts)):
        chance = np.prod([1 - missing_rate if one else missing_rate for one in seen])
        squares = np.square(shifts)
        patterns.append((float(chance), float(squares[list(seen)].sum()) if shifts else 0.0))
    peaks = settings.main_effects**2 * float(np.square(DISEASE_PEAK_EFFECTS).sum())

    def normal_cdf(x: float) -> float:
        return 0.5 * (1 + erf(x / sqrt(2)))

    def averaged(constant: float, varying: float) -> float:
        return sum(
            p1 * p2 * normal_cdf(sqrt(2 * constant + varying * (d1 + d2)) / 2)
            for (p1, d1), (p2, d2) in product(patterns, repeat=2)
        )

    weights = {"covariates": (0.0, 1.0), "spectra": (peaks, 0.0), "both": (peaks, 1.0)}
    return {name: averaged(*both) for name, both in weights.items()}


def monte_carlo_error(auroc: float) -> float:
    """The largest standard error that a Monte Carlo AUROC can have, by Birnbaum's bound."""
    return sqrt(auroc * (1 - auroc) / (PREVALENCE * MONTE_CARLO_PATIENTS))


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

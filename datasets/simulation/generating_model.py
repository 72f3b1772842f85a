"""The generating model of simulated patients and their spectra, and the best AUROC it allows.

The label comes first. Given the label, everything informative is an independent Gaussian whose
mean is shifted between the classes by a known number of standard deviations (its effect), so that
the log-likelihood ratio, and with it the best classifier, is known exactly:

- eight disease peaks: the log amplitude of each, whose effects add up to a separation of
  d' = sqrt(sum of effect^2) = 1.99;
- two blood values, GGT (up) and albumin (down): the logarithm of each.

Everything else (age, sex, BMI, CRP, ALT, AST, the plate, what is missing, the other peaks) does not
depend on the label. The expected ion counts of scan n at the axis point m are

    gain[n] * response[plate](m) * (baseline[n](m) * (1 + chemical noise) + sum of the peaks),

the peaks stand where the scan's calibration error puts them, and the counts are Poisson (shot
noise). The axis is even in sqrt(m/z), as the flight time of an ion is proportional to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import erf, log, sqrt

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

MZ_RANGE = (2_000.0, 20_000.0)
N_PEAKS = 60
# m/z over full width at half maximum: a linear-mode instrument on proteins, isotopes unresolved.
RESOLVING_POWER = 200.0
FWHM_IN_SIGMAS = 2 * sqrt(2 * log(2))
TAIL_RATIO = 1.3  # the heavy side of a peak is this much wider: unresolved adducts
MIN_SIGMA_IN_POINTS = 0.8  # a peak is never lost between the points of a coarse axis
PEAK_REACH_IN_SIGMAS = 5.0
MIN_PEAK_GAP_IN_FWHM = 2.5
EDGE_MARGIN = 0.02  # share of log(m/z) kept free of peaks at both ends

# Heights in ion counts a scan at a gain of 1.
PEAK_MEDIAN_HEIGHT, PEAK_HEIGHT_LOG_SD, PEAK_DECAY_MZ = 300.0, 0.7, 12_000.0
# A disease peak is not among the smallest.
DISEASE_PEAK_MIN_QUANTILE = 0.5
DISEASE_PEAK_LOG_SD = 0.50
OTHER_PEAK_LOG_SD = 0.25
# Processes that change many of the other peaks together, such as clotting or haemolysis.
N_SHARED_FACTORS, SHARED_FACTOR_LOG_SD = 3, 0.12

# Baseline: height in counts and decay length in m/z of each part, the last one flat.
BASELINE_PARTS = ((250.0, 1_500.0), (80.0, 8_000.0), (12.0, float("inf")))
BASELINE_SCAN_LOG_SD, BASELINE_PLATE_LOG_SD = 0.15, 0.20
CHEMICAL_NOISE_SD = 0.06  # of the baseline
CHEMICAL_NOISE_KERNEL = (0.25, 0.5, 0.25)  # its correlation along the axis, in points

SCAN_GAIN_LOG_SD = 0.35
SPOT_LOG_SD = 0.12  # of each peak from scan to scan: crystals differ
CALIBRATION_SCAN_SD, CALIBRATION_PLATE_SD = 150e-6, 200e-6  # relative shift of m/z
PLATE_RESPONSE_LOG_SD, PLATE_RESPONSE_WAVES = 0.10, 4

SCANS_PER_BLOCK = 512


@dataclass(frozen=True)
class Patients:
    """Drawn patients, with what no real cohort tells: their latent values.

    ``case`` is bool [N], ``plate`` int [N]; ``covariates`` have one row a patient, in the units of
    `UNITS`, NaN where missing; ``disease_latents`` are standardised log amplitudes of the disease
    peaks, float [N, 8]: zero mean and unit variance in controls; strongest peak first.
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
    """Give log p(observed | case) - log p(observed | control) of each patient, float [N].

    A Gaussian u of unit variance, mean 0 in controls, e in cases, has the ratio e * (u - e / 2); a
    missing value counts 0. `spectra` is of the disease peaks' latent amplitudes, not measured.
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
    """
    patterns = []
    for seen in product((True, False), repeat=len(BLOOD_VALUE_EFFECTS)):
        chance = np.prod([1 - missing_rate if one else missing_rate for one in seen])
        squares = np.square(list(BLOOD_VALUE_EFFECTS.values()))
        patterns.append((float(chance), float(squares[list(seen)].sum())))
    peaks = float(np.square(DISEASE_PEAK_EFFECTS).sum())

    def normal_cdf(x: float) -> float:
        return 0.5 * (1 + erf(x / sqrt(2)))

    def averaged(constant: float, varying: float) -> float:
        return sum(
            p1 * p2 * normal_cdf(sqrt(2 * constant + varying * (d1 + d2)) / 2)
            for (p1, d1), (p2, d2) in product(patterns, repeat=2)
        )

    weights = {"covariates": (0.0, 1.0), "spectra": (peaks, 0.0), "both": (peaks, 1.0)}
    return {name: averaged(*both) for name, both in weights.items()}


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


@dataclass(frozen=True)
class PeakList:
    """A cohort's peaks: true m/z, ascending, float [P]; median heights in counts at a gain of 1.

    ``disease`` are those that carry the disease, in the order of the disease effects, int [8].
    """

    mz: NDArray[np.float64]
    height: NDArray[np.float64]
    disease: NDArray[np.int64]


def make_axis(spec_len: int) -> NDArray[np.float64]:
    """Return the m/z axis, even in sqrt(m/z), float [L]."""
    low, high = MZ_RANGE
    return np.linspace(sqrt(low), sqrt(high), spec_len) ** 2


def draw_peaks(rng: np.random.Generator) -> PeakList:
    """Draw positions that keep a distance, heights, and which peaks carry the disease."""
    low, high = np.log(MZ_RANGE)
    margin = EDGE_MARGIN * (high - low)
    gap = MIN_PEAK_GAP_IN_FWHM / RESOLVING_POWER
    free = high - low - 2 * margin - gap * (N_PEAKS - 1)
    mz = np.exp(low + margin + np.sort(rng.uniform(0, free, N_PEAKS)) + gap * np.arange(N_PEAKS))
    height = PEAK_MEDIAN_HEIGHT * np.exp(PEAK_HEIGHT_LOG_SD * rng.standard_normal(N_PEAKS))
    height *= np.exp(-(mz - MZ_RANGE[0]) / PEAK_DECAY_MZ)
    # One disease peak from the larger ones of each stretch of the axis.
    disease = []
    for stretch in np.array_split(np.arange(N_PEAKS), len(DISEASE_PEAK_EFFECTS)):
        enough = height[stretch] >= np.quantile(height[stretch], DISEASE_PEAK_MIN_QUANTILE)
        disease.append(rng.choice(stretch[enough]))
    return PeakList(mz, height, rng.permutation(np.array(disease, dtype=np.int64)))


def render_scans(
    patients: Patients,
    scan_patient: NDArray[np.int64],
    peaks: PeakList,
    axis: NDArray[np.float64],
    rng: np.random.Generator,
) -> Iterator[NDArray[np.float32]]:
    """Render scans in blocks, so that a large cohort needs little memory.

    Yields ion counts, float32 [block, L], in the order of `scan_patient`, int [N_scans], the
    patient's row of each scan; ``axis`` is m/z, float [L].
    """
    n_plates = count_plates(len(patients.case))
    log_height = _patient_log_heights(patients, peaks, rng)  # [N, P]
    waves = np.cos(np.pi * np.outer(np.arange(PLATE_RESPONSE_WAVES), np.linspace(0, 1, len(axis))))
    plate_response = np.exp(
        PLATE_RESPONSE_LOG_SD * rng.standard_normal((n_plates, PLATE_RESPONSE_WAVES)) @ waves
    )
    plate_baseline = BASELINE_PLATE_LOG_SD * rng.standard_normal(n_plates)
    plate_shift = CALIBRATION_PLATE_SD * rng.standard_normal(n_plates)
    parts = np.array([h * np.exp(-(axis - axis[0]) / decay) for h, decay in BASELINE_PARTS])

    for start in range(0, len(scan_patient), SCANS_PER_BLOCK):
        patient = scan_patient[start : start + SCANS_PER_BLOCK]
        plate, n = patients.plate[patient], len(patient)
        part_logs = BASELINE_SCAN_LOG_SD * rng.standard_normal((n, len(parts)))
        counts = np.exp(part_logs + plate_baseline[plate, None]) @ parts  # [n, L]
        counts *= 1 + CHEMICAL_NOISE_SD * _chemical_noise(n, len(axis), rng)
        shift = plate_shift[plate] + CALIBRATION_SCAN_SD * rng.standard_normal(n)
        spot = SPOT_LOG_SD * rng.standard_normal((n, N_PEAKS))
        _add_peaks(counts, axis, peaks.mz, np.exp(log_height[patient] + spot), shift)
        counts *= plate_response[plate]
        counts *= np.exp(SCAN_GAIN_LOG_SD * rng.standard_normal(n))[:, None]
        yield rng.poisson(counts.clip(min=0)).astype(np.float32)


def _patient_log_heights(
    patients: Patients, peaks: PeakList, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Log heights of every peak in every patient, [N, P]; only the disease peaks know the label."""
    n = len(patients.case)
    own = OTHER_PEAK_LOG_SD * rng.standard_normal((n, N_PEAKS))
    loadings = SHARED_FACTOR_LOG_SD * rng.standard_normal((N_SHARED_FACTORS, N_PEAKS))
    deviation = own + rng.standard_normal((n, N_SHARED_FACTORS)) @ loadings
    deviation[:, peaks.disease] = DISEASE_PEAK_LOG_SD * patients.disease_latents
    return np.asarray(np.log(peaks.height) + deviation)


def _chemical_noise(n: int, spec_len: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Unit-variance noise [n, L], correlated between neighbouring points."""
    kernel = np.array(CHEMICAL_NOISE_KERNEL) / np.linalg.norm(CHEMICAL_NOISE_KERNEL)
    white = rng.standard_normal((n, spec_len + len(kernel) - 1))
    return np.sum([w * white[:, i : i + spec_len] for i, w in enumerate(kernel)], axis=0)


def _add_peaks(
    counts: NDArray[np.float64],
    axis: NDArray[np.float64],
    peak_mz: NDArray[np.float64],
    height: NDArray[np.float64],
    shift: NDArray[np.float64],
) -> None:
    """Add peaks of `height` [n, P] at m/z * (1 + shift [n]) to `counts` [n, L], in place."""
    spacing = np.interp(peak_mz, axis, np.gradient(axis))
    sigma = np.maximum(peak_mz / (RESOLVING_POWER * FWHM_IN_SIGMAS), MIN_SIGMA_IN_POINTS * spacing)
    reach = PEAK_REACH_IN_SIGMAS * TAIL_RATIO * sigma
    first = np.searchsorted(axis, peak_mz - reach)
    last = np.searchsorted(axis, peak_mz + reach)
    for p, (lo, hi) in enumerate(zip(first, last, strict=True)):
        z = (axis[lo:hi] - (peak_mz[p] * (1 + shift))[:, None]) / sigma[p]  # [n, window]
        np.divide(z, TAIL_RATIO, out=z, where=z > 0)
        counts[:, lo:hi] += height[:, p, None] * np.exp(-0.5 * z * z)

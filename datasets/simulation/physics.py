"""How the simulated spectrometer turns patients into spectra: peaks, baseline, noise, batches.

The expected ion counts of scan n at the axis point m are

    gain[n] * response[plate](m) * (baseline[n](m) * (1 + chemical noise) + sum of the peaks),

the peaks stand where the scan's calibration error puts them, and the counts are Poisson (shot
noise). The axis is even in sqrt(m/z), as the flight time of an ion is proportional to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from datasets.simulation.patients import DISEASE_PEAK_EFFECTS, Patients, count_plates

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
class PeakList:
    """The peaks that a cohort has.

    Attributes:
        mz: True positions, ascending, float [P].
        height: Median heights in counts at a gain of 1, float [P].
        disease: Which of them carry the disease, in the order of the disease effects, int [8].
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

    Args:
        patients: The patients.
        scan_patient: Row of the patient of each scan, int [N_scans].
        peaks: The peaks of the cohort.
        axis: m/z, float [L].
        rng: Source of every draw.

    Yields:
        Ion counts, float32 [block, L], in the order of `scan_patient`.
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
    smooth = np.zeros((n, spec_len))
    for offset, weight in enumerate(kernel):
        smooth += weight * white[:, offset : offset + spec_len]
    return smooth


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

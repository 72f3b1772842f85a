"""Rendering of MALDI-TOF scans: narrow peaks on a decaying baseline, in ion counts.

The expected counts of scan n at the axis point m are

    gain[n] * response[plate](m) * (baseline[n](m) * (1 + chemical noise) + sum of the peaks),

the peaks stand where the scan's calibration error puts them, and the counts are Poisson (shot
noise). The axis is even in sqrt(m/z), as the flight time of an ion is proportional to it.
"""

from collections.abc import Iterator
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from datasets.simulation.calibration import displacement
from datasets.simulation.generating_model import Patients, count_plates
from datasets.simulation.peaks import (
    PeakList,
    choose_disease_peaks,
    choose_other_peaks,
    patient_log_heights,
)
from datasets.simulation.settings import DEFAULT_SETTINGS, SimulationSettings

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


def make_axis(spec_len: int) -> NDArray[np.float64]:
    """Return the m/z axis, even in sqrt(m/z), float [L]."""
    low, high = MZ_RANGE
    return np.linspace(sqrt(low), sqrt(high), spec_len) ** 2


def draw_peaks(
    rng: np.random.Generator, settings: SimulationSettings = DEFAULT_SETTINGS
) -> PeakList:
    """Draw positions that keep a distance, heights, and which peaks know the label."""
    low, high = np.log(MZ_RANGE)
    margin = EDGE_MARGIN * (high - low)
    gap = MIN_PEAK_GAP_IN_FWHM / RESOLVING_POWER
    free = high - low - 2 * margin - gap * (N_PEAKS - 1)
    mz = np.exp(low + margin + np.sort(rng.uniform(0, free, N_PEAKS)) + gap * np.arange(N_PEAKS))
    height = PEAK_MEDIAN_HEIGHT * np.exp(PEAK_HEIGHT_LOG_SD * rng.standard_normal(N_PEAKS))
    height *= np.exp(-(mz - MZ_RANGE[0]) / PEAK_DECAY_MZ)
    disease = choose_disease_peaks(height, rng)
    return PeakList(mz, height, disease, *choose_other_peaks(height, disease, settings, rng))


def render_scans(
    patients: Patients,
    scan_patient: NDArray[np.int64],
    peaks: PeakList,
    axis: NDArray[np.float64],
    rng: np.random.Generator,
    warp: NDArray[np.float64] | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Render scans in blocks, so that a large cohort needs little memory.

    Yields ion counts, float32 [block, L], in the order of `scan_patient`, int [N_scans], the
    patient's row of each scan; ``axis`` is m/z, float [L]; ``warp`` each scan's shift and stretch
    (`draw_warp`), float [N_scans, 2].
    """
    warp = np.zeros((len(scan_patient), 2)) if warp is None else warp
    n_plates = count_plates(len(patients.case))
    log_height = patient_log_heights(patients, peaks, rng)  # [N, P]
    waves = np.cos(np.pi * np.outer(np.arange(PLATE_RESPONSE_WAVES), np.linspace(0, 1, len(axis))))
    plate_response = np.exp(
        PLATE_RESPONSE_LOG_SD * rng.standard_normal((n_plates, PLATE_RESPONSE_WAVES)) @ waves
    )
    plate_baseline = BASELINE_PLATE_LOG_SD * rng.standard_normal(n_plates)
    plate_shift = CALIBRATION_PLATE_SD * rng.standard_normal(n_plates)
    spacing = np.interp(peaks.position, axis, np.gradient(axis))
    peak_index = np.interp(peaks.position, axis, np.arange(len(axis)))
    parts = np.array([h * np.exp(-(axis - axis[0]) / decay) for h, decay in BASELINE_PARTS])

    for start in range(0, len(scan_patient), SCANS_PER_BLOCK):
        patient = scan_patient[start : start + SCANS_PER_BLOCK]
        plate, n = patients.plate[patient], len(patient)
        part_logs = BASELINE_SCAN_LOG_SD * rng.standard_normal((n, len(parts)))
        counts = np.exp(part_logs + plate_baseline[plate, None]) @ parts  # [n, L]
        counts *= 1 + CHEMICAL_NOISE_SD * _chemical_noise(n, len(axis), rng)
        shift = plate_shift[plate] + CALIBRATION_SCAN_SD * rng.standard_normal(n)
        spot = SPOT_LOG_SD * rng.standard_normal((n, N_PEAKS))
        heights = np.exp(log_height[patient] + spot)
        moved = displacement(warp[start : start + n], peak_index, len(axis)) * spacing
        _add_peaks(counts, axis, peaks.position, heights, shift, moved)
        counts *= plate_response[plate]
        counts *= np.exp(SCAN_GAIN_LOG_SD * rng.standard_normal(n))[:, None]
        yield rng.poisson(counts.clip(min=0)).astype(np.float32)


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
    moved: NDArray[np.float64],
) -> None:
    """Add peaks of `height` [n, P] at m/z * (1 + shift [n]) + moved [n, P] to `counts` [n, L]."""
    spacing = np.interp(peak_mz, axis, np.gradient(axis))
    sigma = np.maximum(peak_mz / (RESOLVING_POWER * FWHM_IN_SIGMAS), MIN_SIGMA_IN_POINTS * spacing)
    reach = PEAK_REACH_IN_SIGMAS * TAIL_RATIO * sigma + np.abs(moved).max(axis=0)
    first = np.searchsorted(axis, peak_mz - reach)
    last = np.searchsorted(axis, peak_mz + reach)
    for p, (lo, hi) in enumerate(zip(first, last, strict=True)):
        z = (axis[lo:hi] - (peak_mz[p] * (1 + shift) + moved[:, p])[:, None]) / sigma[
            p
        ]  # [n, window]
        np.divide(z, TAIL_RATIO, out=z, where=z > 0)
        counts[:, lo:hi] += height[:, p, None] * np.exp(-0.5 * z * z)

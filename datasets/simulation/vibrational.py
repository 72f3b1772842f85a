"""Rendering of Raman, FT-IR and NIR scans: broad, overlapping bands on an even axis.

All bands of a patient add up to a spectrum, which each scan sees at its own calibration. Then

- Raman: counts = gain * (bands + fluorescence), Poisson, with read noise and cosmic spikes. The
  fluorescence is many times as high as the bands;
- FT-IR: absorbance = scatter * (bands + lines of water vapour and CO2) + offset + slope + noise,
  the distortions that multiplicative scatter correction (MSC) removes;
- NIR: the same without lines, with wider overtones and stronger scatter.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, log

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
from datasets.simulation.settings import SimulationSettings

N_BANDS = 36
MIN_GAP = 0.5  # between neighbouring bands, of their mean distance
OVERSAMPLED = 2  # points of the rendered spectrum per point of the axis, before a scan samples it
SPOT_LOG_SD = 0.05  # of each band from scan to scan
SCANS_PER_BLOCK = 256

# Fluorescence: height in counts and decay length in cm-1 of each part, the last one flat.
FLUORESCENCE_PARTS = ((9_000.0, 500.0), (4_000.0, 1_500.0), (1_500.0, float("inf")))
FLUORESCENCE_PATIENT_LOG_SD, FLUORESCENCE_SCAN_LOG_SD, FLUORESCENCE_PLATE_LOG_SD = 0.4, 0.1, 0.2
LASER_GAIN_LOG_SD = 0.25
READ_NOISE = 8.0  # counts
SPIKE_MEDIAN_HEIGHT, SPIKE_LOG_SD = 6_000.0, 0.8
SPIKE_KERNEL = (0.2, 1.0, 0.3)  # a ray crosses neighbouring pixels

# Residues of the atmosphere in FT-IR: they may be negative, as a background was subtracted.
N_WATER_LINES, WATER_RANGE, WATER_FWHM = 30, (1_350.0, 1_850.0), 6.0
CO2_LINES, CO2_FWHM = (2_340.0, 2_362.0), 16.0
RESIDUE_SD = 0.01  # absorbance


@dataclass(frozen=True)
class Vibrational:
    """A technique of vibrational spectroscopy.

    Attributes:
        axis: Its first and last point, in ``unit``.
        regions: Where bands are, in ``unit``.
        fwhm: Smallest and largest full width at half maximum of a band, in ``unit``.
        lorentzian: Share of a Lorentzian in a band's shape; the rest is Gaussian.
        height: Median height of a band, in ``intensity``; its logarithm's standard deviation.
        variation: Of heights between patients, as a share of that in MALDI.
        calibration_sd: Calibration error of a scan, in ``unit``.
        scatter_log_sd: Of the factor on a scan.
        offset_sd, slope_sd: Of what is added to a scan, the slope at both ends, in ``intensity``.
        noise: Standard deviation of the detector's noise, in ``intensity``.
    """

    axis: tuple[float, float]
    unit: str
    intensity: str
    regions: tuple[tuple[float, float], ...]
    fwhm: tuple[float, float]
    lorentzian: float
    height: tuple[float, float]
    variation: float
    calibration_sd: float
    scatter_log_sd: float = 0.0
    offset_sd: float = 0.0
    slope_sd: float = 0.0
    noise: float = 0.0


VIBRATIONAL = {
    "raman": Vibrational(
        axis=(400.0, 1_800.0),
        unit="cm-1",
        intensity="counts",
        regions=((430.0, 1_770.0),),
        fwhm=(14.0, 32.0),
        lorentzian=0.7,
        height=(600.0, 0.5),
        variation=1.0,
        calibration_sd=0.4,
    ),
    "ftir": Vibrational(
        axis=(900.0, 3_100.0),
        unit="cm-1",
        intensity="absorbance",
        regions=((940.0, 1_780.0), (2_820.0, 3_000.0)),
        fwhm=(20.0, 50.0),
        lorentzian=0.5,
        height=(0.15, 0.5),
        variation=0.6,
        calibration_sd=0.1,
        scatter_log_sd=0.2,
        offset_sd=0.05,
        slope_sd=0.04,
        noise=5e-4,
    ),
    "nir": Vibrational(
        axis=(1_100.0, 2_500.0),
        unit="nm",
        intensity="absorbance",
        regions=((1_140.0, 2_460.0),),
        fwhm=(60.0, 130.0),
        lorentzian=0.1,
        height=(0.12, 0.5),
        variation=0.5,
        calibration_sd=0.05,
        scatter_log_sd=0.4,
        offset_sd=0.2,
        slope_sd=0.1,
        noise=1e-4,
    ),
}


def make_even_axis(technique: Vibrational, spec_len: int) -> NDArray[np.float64]:
    """Return the even axis, in the technique's unit, float [L]."""
    return np.linspace(*technique.axis, spec_len)


def draw_bands(
    technique: Vibrational, rng: np.random.Generator, settings: SimulationSettings
) -> PeakList:
    """Draw bands' positions that keep a distance, widths, heights, and which know the label."""
    lengths = np.array([high - low for low, high in technique.regions])
    gap = MIN_GAP * lengths.sum() / N_BANDS
    free = lengths.sum() - gap * (N_BANDS - 1)
    along = np.sort(rng.uniform(0, free, N_BANDS)) + gap * np.arange(N_BANDS)
    ends = np.cumsum(lengths)  # the regions one behind the other
    region = np.minimum(np.searchsorted(ends, along, side="right"), len(lengths) - 1)
    position = np.array([low for low, _ in technique.regions])[region] + (
        along - (ends - lengths)[region]
    )
    median, log_sd = technique.height
    height = median * np.exp(log_sd * rng.standard_normal(N_BANDS))
    fwhm = rng.uniform(*technique.fwhm, N_BANDS)
    disease = choose_disease_peaks(height, rng)
    others = choose_other_peaks(height, disease, settings, rng)
    return PeakList(position, height, disease, *others, fwhm)


def band_shapes(
    position: NDArray[np.float64],
    fwhm: NDArray[np.float64],
    lorentzian: float,
    axis: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Pseudo-Voigt bands of height 1, float [P, L]."""
    z = 2 * (axis - position[:, None]) / fwhm[:, None]
    return np.asarray(lorentzian / (1 + z**2) + (1 - lorentzian) * np.exp(-log(2) * z**2))


def render_bands(
    technique: Vibrational,
    patients: Patients,
    scan_patient: NDArray[np.int64],
    peaks: PeakList,
    axis: NDArray[np.float64],
    rng: np.random.Generator,
    warp: NDArray[np.float64],
    cosmic_spikes: float = 0.0,
) -> Iterator[NDArray[np.float32]]:
    """Render scans in blocks, so that a large cohort needs little memory.

    Yields float32 [block, L] in the order of `scan_patient`, int [N_scans], the patient's row of
    each scan; ``warp`` is each scan's shift and stretch (`draw_warp`), float [N_scans, 2].
    """
    spec_len, spacing = len(axis), axis[1] - axis[0]
    log_height = patient_log_heights(patients, peaks, rng, technique.variation)  # [N, P]
    own_shift = technique.calibration_sd / spacing * rng.standard_normal(len(warp))
    warp = warp + np.column_stack([own_shift, np.zeros(len(warp))])
    # Far enough beyond both ends for the scan that is moved furthest.
    beyond = 1 + ceil(np.abs(warp).sum(axis=1).max())
    index = np.arange(-beyond, spec_len - 1 + beyond + 1 / OVERSAMPLED, 1 / OVERSAMPLED)
    grid = axis[0] + spacing * index
    shapes = band_shapes(peaks.position, peaks.fwhm, technique.lorentzian, grid)
    measure = (
        _raman(patients, axis, rng, cosmic_spikes)
        if technique.intensity == "counts"
        else _infrared(technique, patients, axis, rng)
    )
    points = np.arange(spec_len, dtype=np.float64)
    for start in range(0, len(scan_patient), SCANS_PER_BLOCK):
        patient = scan_patient[start : start + SCANS_PER_BLOCK]
        spot = SPOT_LOG_SD * technique.variation * rng.standard_normal((len(patient), N_BANDS))
        whole = np.exp(log_height[patient] + spot) @ shapes
        moved = displacement(warp[start : start + len(patient)], points, spec_len)
        bands = _sample(whole, OVERSAMPLED * (points - moved + beyond))
        yield measure(bands, patient).astype(np.float32)


def _sample(whole: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of each row of `whole` [n, G] at fractional indices [n, L], linear in between."""
    first = np.floor(place).astype(np.int64)
    before, behind = (np.take_along_axis(whole, first + step, axis=1) for step in (0, 1))
    return np.asarray(before + (place - first) * (behind - before))


# From the bands of scans [n, L] and their patients' rows [n] to what is measured [n, L].
Measure = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]


def _raman(
    patients: Patients, axis: NDArray[np.float64], rng: np.random.Generator, spikes: float
) -> Measure:
    parts = np.array([h * np.exp(-(axis - axis[0]) / decay) for h, decay in FLUORESCENCE_PARTS])
    n_patients = len(patients.case)
    of_plate = FLUORESCENCE_PLATE_LOG_SD * rng.standard_normal(count_plates(n_patients))
    of_patient = FLUORESCENCE_PATIENT_LOG_SD * rng.standard_normal((n_patients, len(parts)))
    of_patient += of_plate[patients.plate, None]

    def measure(bands: NDArray[np.float64], patient: NDArray[np.int64]) -> NDArray[np.float64]:
        n = len(patient)
        scan = FLUORESCENCE_SCAN_LOG_SD * rng.standard_normal((n, len(parts)))
        expected = bands + np.exp(of_patient[patient] + scan) @ parts
        expected *= np.exp(LASER_GAIN_LOG_SD * rng.standard_normal(n))[:, None]
        counts = rng.poisson(expected) + READ_NOISE * rng.standard_normal(expected.shape)
        if spikes:
            _add_spikes(counts, rng.poisson(spikes, n), rng)
        return np.asarray(counts)

    return measure


def _add_spikes(
    counts: NDArray[np.float64], number: NDArray[np.int64], rng: np.random.Generator
) -> None:
    """Add a number [n] of cosmic rays to each scan of `counts` [n, L], in place."""
    scan = np.repeat(np.arange(len(counts)), number)
    reach = len(SPIKE_KERNEL) // 2
    point = rng.integers(reach, counts.shape[1] - reach, len(scan))
    height = SPIKE_MEDIAN_HEIGHT * np.exp(SPIKE_LOG_SD * rng.standard_normal(len(scan)))
    for step, share in enumerate(SPIKE_KERNEL, start=-reach):
        np.add.at(counts, (scan, point + step), share * height)


def _infrared(
    technique: Vibrational, patients: Patients, axis: NDArray[np.float64], rng: np.random.Generator
) -> Measure:
    lines = _atmosphere(axis, rng) if technique.unit == "cm-1" else np.zeros((0, len(axis)))
    slope = np.linspace(-1, 1, len(axis))
    plate_offset = technique.offset_sd / 2 * rng.standard_normal(count_plates(len(patients.case)))

    def measure(bands: NDArray[np.float64], patient: NDArray[np.int64]) -> NDArray[np.float64]:
        n = len(patient)
        absorbance = bands + RESIDUE_SD * rng.standard_normal((n, len(lines))) @ lines
        absorbance *= np.exp(technique.scatter_log_sd * rng.standard_normal(n))[:, None]
        offset = (
            technique.offset_sd * rng.standard_normal(n) + plate_offset[patients.plate[patient]]
        )
        absorbance += offset[:, None]
        absorbance += technique.slope_sd * rng.standard_normal(n)[:, None] * slope
        return np.asarray(absorbance + technique.noise * rng.standard_normal(bands.shape))

    return measure


def _atmosphere(axis: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Lines of water vapour and of CO2, float [2, L]; at least as wide as a point."""
    spacing = axis[1] - axis[0]
    water = rng.uniform(*WATER_RANGE, N_WATER_LINES)
    strength = rng.exponential(size=N_WATER_LINES)
    lines = []
    for position, height, fwhm in [
        (water, strength, WATER_FWHM),
        (np.array(CO2_LINES), np.ones(len(CO2_LINES)), CO2_FWHM),
    ]:
        widths = np.full(len(position), max(fwhm, spacing))
        lines.append(height @ band_shapes(position, widths, 1.0, axis))
    return np.array(lines)

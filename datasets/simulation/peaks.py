"""Peaks or bands of a simulated cohort: which of them know the label, and their heights."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datasets.simulation.generating_model import (
    DISEASE_PEAK_EFFECTS,
    N_PAIRS,
    PEAKS_PER_SUBTYPE,
    Patients,
)
from datasets.simulation.settings import SimulationSettings

# A disease peak is not among the smallest.
DISEASE_PEAK_MIN_QUANTILE = 0.5
# Standard deviations of log heights in a MALDI cohort.
DISEASE_PEAK_LOG_SD = 0.50
OTHER_PEAK_LOG_SD = 0.25
# Processes that change many of the other peaks together, such as clotting or haemolysis.
N_SHARED_FACTORS, SHARED_FACTOR_LOG_SD = 3, 0.12


def _none(*shape: int) -> NDArray[np.int64]:
    return np.empty(shape, dtype=np.int64)


@dataclass(frozen=True)
class PeakList:
    """A cohort's peaks: true places on the axis, ascending, and median heights, float [P].

    ``disease`` are those with a main effect, in the order of the disease effects, int [8];
    ``pairs`` those that interact, int [Q, 2]; ``subtypes`` those that a subtype raises, int [K, 3];
    ``fwhm`` are widths of bands in the axis' unit, float [P], empty where they follow from m/z.
    """

    position: NDArray[np.float64]
    height: NDArray[np.float64]
    disease: NDArray[np.int64]
    pairs: NDArray[np.int64] = field(default_factory=lambda: _none(0, 2))
    subtypes: NDArray[np.int64] = field(default_factory=lambda: _none(0, PEAKS_PER_SUBTYPE))
    fwhm: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


def choose_disease_peaks(
    height: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """One disease peak from the larger ones of each stretch of the axis, int [8]."""
    disease = []
    for stretch in np.array_split(np.arange(len(height)), len(DISEASE_PEAK_EFFECTS)):
        enough = height[stretch] >= np.quantile(height[stretch], DISEASE_PEAK_MIN_QUANTILE)
        disease.append(rng.choice(stretch[enough]))
    return rng.permutation(np.array(disease, dtype=np.int64))


def choose_other_peaks(
    height: NDArray[np.float64],
    disease: NDArray[np.int64],
    settings: SimulationSettings,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Interacting pairs [Q, 2] and the subtypes' peaks [K, 3], from the larger of the rest."""
    n_pairs = N_PAIRS if settings.interactions else 0
    needed = 2 * n_pairs + settings.subtypes * PEAKS_PER_SUBTYPE
    rest = np.setdiff1d(np.arange(len(height)), disease)
    largest = rest[np.argsort(-height[rest])][: max(needed, len(rest) // 2)]
    chosen = rng.permutation(largest)[:needed]
    return chosen[: 2 * n_pairs].reshape(-1, 2), chosen[2 * n_pairs :].reshape(
        -1, PEAKS_PER_SUBTYPE
    )


def patient_log_heights(
    patients: Patients, peaks: PeakList, rng: np.random.Generator, variation: float = 1.0
) -> NDArray[np.float64]:
    """Log heights of every peak in every patient, [N, P]; the others do not know the label.

    ``variation`` is a factor on all standard deviations.
    """
    n, n_peaks = len(patients.case), len(peaks.position)
    own = OTHER_PEAK_LOG_SD * rng.standard_normal((n, n_peaks))
    loadings = SHARED_FACTOR_LOG_SD * rng.standard_normal((N_SHARED_FACTORS, n_peaks))
    deviation = own + rng.standard_normal((n, N_SHARED_FACTORS)) @ loadings
    for chosen, latents in [
        (peaks.disease, patients.disease_latents),
        (peaks.pairs, patients.pair_latents),
        (peaks.subtypes, patients.subtype_latents),
    ]:
        deviation[:, chosen] = DISEASE_PEAK_LOG_SD * latents
    return np.asarray(np.log(peaks.height) + variation * deviation)

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from datasets.cohort import read_units
from datasets.simulation.generating_model import (
    Patients,
    auroc_of_ratios,
    draw_patients,
    log_likelihood_ratios,
)
from datasets.simulation.peaks import DISEASE_PEAK_LOG_SD, PeakList
from datasets.simulation.settings import SimulationSettings, Technique
from datasets.simulation.simulate import simulate_cohort
from datasets.simulation.vibrational import (
    FLUORESCENCE_PARTS,
    N_BANDS,
    VIBRATIONAL,
    Vibrational,
    band_shapes,
    draw_bands,
    make_even_axis,
    render_bands,
)

TECHNIQUES = sorted(VIBRATIONAL)
POINTS, PATIENTS, SCANS = 1_024, 40, 4


class Drawn:
    """Patients, bands and scans of a technique; without a band where ``height`` is 0."""

    def __init__(
        self,
        technique: Vibrational,
        settings: SimulationSettings,
        n_patients: int = PATIENTS,
        height: float = 1.0,
    ) -> None:
        peak_rng, patient_rng, rng = map(np.random.default_rng, (1, 2, 3))
        peaks = draw_bands(technique, peak_rng, settings)
        self.peaks: PeakList = replace(peaks, height=peaks.height * max(height, 1e-12))
        self.patients = draw_patients(n_patients, patient_rng, settings)
        self.axis = make_even_axis(technique, POINTS)
        self.patient = np.repeat(np.arange(n_patients), SCANS)
        blocks = render_bands(
            technique,
            self.patients,
            self.patient,
            self.peaks,
            self.axis,
            rng,
            np.zeros((len(self.patient), 2)),
            settings.cosmic_spikes,
        )
        self.scans = np.concatenate(list(blocks)).astype(float)


def drawn(name: Technique, height: float = 1.0, **settings: float) -> Drawn:
    chosen = SimulationSettings(technique=name, **settings)  # type: ignore[arg-type]
    return Drawn(VIBRATIONAL[name], chosen, height=height)


@pytest.mark.parametrize(
    ("name", "axis", "spectra"),
    [
        ("raman", "cm-1", "counts"),
        ("ftir", "cm-1", "absorbance"),
        ("nir", "nm", "absorbance"),
        ("maldi", "m/z", "ion counts"),
    ],
)
def test_the_cohort_names_its_units(
    tmp_path: Path, name: Technique, axis: str, spectra: str
) -> None:
    settings = SimulationSettings(technique=name, covariates="none")
    root = simulate_cohort(tmp_path / "c", 0, 20, 128, 2, settings).root
    assert read_units(root) == {"axis": axis, "spectra": spectra}
    values = np.load(root / "axis.npy")
    assert np.all(np.diff(values) > 0)
    if name in VIBRATIONAL:
        assert (values[0], values[-1]) == VIBRATIONAL[name].axis
        np.testing.assert_allclose(np.diff(values), np.diff(values).mean(), rtol=1e-3)
    assert np.isfinite(np.load(root / "spectra.npy")).all()


@pytest.mark.parametrize("name", TECHNIQUES)
def test_bands_lie_in_their_regions_in_order(name: Technique) -> None:
    technique = VIBRATIONAL[name]
    for seed in range(20):
        peaks = draw_bands(technique, np.random.default_rng(seed), SimulationSettings(name))
        assert len(peaks.position) == N_BANDS
        assert np.all(np.diff(peaks.position) > 0)
        inside = [
            (peaks.position >= low) & (peaks.position <= high) for low, high in technique.regions
        ]
        assert np.any(inside, axis=0).all()
        assert all(some.any() for some in inside)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_peaks_that_know_the_label_are_different_ones(name: Technique) -> None:
    settings = SimulationSettings(name, interactions=0.5, subtypes=6)
    peaks = draw_bands(VIBRATIONAL[name], np.random.default_rng(0), settings)
    chosen = np.concatenate([peaks.disease, peaks.pairs.ravel(), peaks.subtypes.ravel()])
    assert (peaks.pairs.shape, peaks.subtypes.shape) == ((2, 2), (6, 3))
    assert len(set(chosen)) == len(chosen) == 8 + 4 + 18


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_band_is_as_wide_as_it_says(name: Technique) -> None:
    technique = VIBRATIONAL[name]
    low, high = technique.axis
    axis = np.linspace(low - 200, high + 200, 8_192)
    peaks = draw_bands(technique, np.random.default_rng(0), SimulationSettings(name))
    shapes = band_shapes(peaks.position, peaks.fwhm, technique.lorentzian, axis)
    measured = (shapes > 0.5).sum(axis=1) * (axis[1] - axis[0])
    np.testing.assert_allclose(measured, peaks.fwhm, rtol=0.03)


def test_nir_is_broadest_and_bands_overlap() -> None:
    in_points, in_gaps = {}, {}
    for name, technique in VIBRATIONAL.items():
        axis = make_even_axis(technique, POINTS)
        peaks = draw_bands(technique, np.random.default_rng(0), SimulationSettings(name))  # type: ignore[arg-type]
        in_points[name] = np.median(peaks.fwhm) / (axis[1] - axis[0])
        in_gaps[name] = np.median(peaks.fwhm) / np.median(np.diff(peaks.position))
    # A MALDI peak of such an axis has 1 to 4 points.
    assert min(in_points.values()) > 10
    assert in_points["nir"] > 2 * max(in_points["raman"], in_points["ftir"])
    assert in_gaps["nir"] > in_gaps["ftir"] > in_gaps["raman"]
    assert in_gaps["ftir"] > 1


def test_fluorescence_is_many_times_as_high_as_raman_bands() -> None:
    with_bands, without = drawn("raman"), drawn("raman", height=0.0)
    background = np.median(without.scans)
    bands = np.median(with_bands.scans) - background
    assert background > 5 * bands > 0
    # From sample to sample it varies more than bands do from point to point.
    assert without.scans.mean(axis=1).std() > with_bands.scans.std(axis=1).mean() / 3


def test_raman_noise_is_that_of_counting() -> None:
    scans = drawn("raman", height=0.0).scans
    second = scans[:, :-2] - 2 * scans[:, 1:-1] + scans[:, 2:]  # a smooth background is gone
    measured = second.var(axis=1) / 6
    assert measured / scans.mean(axis=1) == pytest.approx(1.0, abs=0.2)


def test_cosmic_spikes_come_at_their_rate_and_are_narrow() -> None:
    without, with_spikes = drawn("raman"), drawn("raman", cosmic_spikes=2.0)

    def jumps(scans: np.ndarray) -> np.ndarray:
        noise = np.sqrt(scans[:, 1:-1])
        return (scans[:, 1:-1] - (scans[:, :-2] + scans[:, 2:]) / 2) / noise > 8

    assert jumps(without.scans).sum() == 0
    per_scan = jumps(with_spikes.scans).sum(axis=1)
    assert 1.0 < per_scan.mean() < 2.2  # those that are too small are missed
    assert 0.5 < per_scan.var() / per_scan.mean() < 1.6  # Poisson


@pytest.mark.parametrize("name", ["ftir", "nir"])
def test_scatter_is_a_factor_and_an_offset(name: Technique) -> None:
    found = drawn(name)
    technique = VIBRATIONAL[name]
    reference = found.scans.mean(axis=0)
    design = np.column_stack([reference, np.ones(POINTS), np.linspace(-1, 1, POINTS)])
    factor, offset, _ = np.linalg.lstsq(design, found.scans.T, rcond=None)[0]
    assert np.log(factor).std() == pytest.approx(technique.scatter_log_sd, rel=0.4)
    assert offset.std() > technique.offset_sd / 2
    left = found.scans - (design @ np.linalg.lstsq(design, found.scans.T, rcond=None)[0]).T
    # As a multiplicative scatter correction (MSC) does: most of the variance goes.
    assert left.var() < 0.2 * (found.scans - reference).var()


def test_lines_of_air_are_in_ftir_alone() -> None:
    places, outside = (2_340.0, 2_362.0), (2_200.0, 2_600.0)
    scans, axis = (found := drawn("ftir", height=0.0)).scans, found.axis
    spread = scans.std(axis=0)

    def level(low: float, high: float) -> float:
        curved = scans[:, :-40] - 2 * scans[:, 20:-20] + scans[:, 40:]
        inside = (axis[20:-20] > low) & (axis[20:-20] < high)
        return float(curved[:, inside].std())

    assert spread.min() > 0
    assert level(places[0] - 5, places[1] + 5) > 3 * level(outside[0], outside[0] + 40)
    assert level(1_400, 1_800) > 3 * level(outside[1], outside[1] + 100)
    nir = drawn("nir", height=0.0).scans
    curved = nir[:, :-40] - 2 * nir[:, 20:-20] + nir[:, 40:]
    np.testing.assert_allclose(curved.std(), np.sqrt(6) * VIBRATIONAL["nir"].noise, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", TECHNIQUES)
def test_who_knows_the_bands_comes_near_the_best_auroc(name: Technique) -> None:
    """Heights by least squares on the true shapes, and their likelihood ratio as if exact."""
    technique = VIBRATIONAL[name]
    settings = SimulationSettings(name, main_effects=0.0, interactions=0.6, subtypes=4)
    found = Drawn(technique, settings, n_patients=1_000)
    slope = np.linspace(-1, 1, POINTS)
    smooth = [np.ones(POINTS), slope]
    if name == "raman":
        along = found.axis - found.axis[0]
        smooth = [np.exp(-along / decay) for _, decay in FLUORESCENCE_PARTS]
    shapes = band_shapes(found.peaks.position, found.peaks.fwhm, technique.lorentzian, found.axis)
    design = np.vstack([shapes, *smooth]).T
    fitted = np.linalg.lstsq(design, found.scans.T, rcond=None)[0][:N_BANDS].T
    height = np.log(fitted.clip(1e-3 * found.peaks.height))
    height -= np.median(height, axis=1, keepdims=True)  # of the scan's factor
    height = height.reshape(-1, SCANS, N_BANDS).mean(axis=1)
    height -= height[~found.patients.case].mean(axis=0)
    latents = height / (technique.variation * DISEASE_PEAK_LOG_SD)
    peaks, patients = found.peaks, found.patients
    seen = Patients(
        patients.case,
        patients.plate,
        patients.covariates,
        *(latents[:, of] for of in (peaks.disease, peaks.pairs, peaks.subtypes)),
    )
    reached = roc_auc_score(patients.case, log_likelihood_ratios(seen, settings)["spectra"])
    best = auroc_of_ratios(patients, settings)["spectra"]
    assert best - 0.04 < reached < best + 0.005

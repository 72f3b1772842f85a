from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from datasets.simulation.calibration import displacement, draw_warp
from datasets.simulation.generating_model import Patients, auroc_of_ratios, draw_patients
from datasets.simulation.maldi import RESOLVING_POWER, draw_peaks, make_axis, render_scans
from datasets.simulation.peaks import PeakList
from datasets.simulation.settings import BLOOD_VALUES, SimulationSettings
from datasets.simulation.simulate import SimulatedCohort, simulate_cohort


class Rendered:
    """The default cohort, read as any cohort is."""

    def __init__(self, truth: SimulatedCohort) -> None:
        self.truth = truth
        self.samples = pd.read_csv(truth.root / "samples.csv")
        self.scans = pd.read_csv(truth.root / "scans.csv")
        self.axis = np.load(truth.root / "axis.npy").astype(float)
        self.counts = np.load(truth.root / "spectra.npy")
        self.case = (self.samples["label"] == "case").to_numpy()
        self.sample_of_scan = self.scans["sample_id"].map(
            dict(zip(self.samples["sample_id"], range(len(self.samples)), strict=True))
        )
        tic = self.counts / self.counts.sum(axis=1, keepdims=True)
        root_mean = pd.DataFrame(np.sqrt(tic)).groupby(self.sample_of_scan.to_numpy()).mean()
        self.patient_spectra = root_mean.to_numpy()  # [N, L], sqrt and TIC, mean of the scans

    def window(self, mz: float) -> np.ndarray:
        """Sum of every patient's spectrum over a peak."""
        return self.patient_spectra[:, np.abs(self.axis - mz) < mz / 200].sum(axis=1)


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return Rendered(simulate_cohort(tmp_path_factory.mktemp("cache") / "cohort"))


@pytest.mark.slow
def test_peaks_keep_a_distance_and_eight_carry_the_disease(default: Rendered) -> None:
    peaks = np.array(default.truth.peaks)
    assert len(peaks) == 60
    assert peaks.min() > 2_000
    assert peaks.max() < 20_000
    assert np.diff(peaks).min() > 0
    assert np.diff(np.log(peaks)).min() > 2 / 200  # two widths at half maximum
    disease = [peak.position for peak in default.truth.disease_peaks]
    assert len(disease) == 8
    assert set(disease) <= set(peaks)


def test_classes_differ_at_the_disease_peaks_alone(default: Rendered) -> None:
    disease = {peak.position: peak for peak in default.truth.disease_peaks}
    others = []
    for mz in default.truth.peaks:
        heights = default.window(mz)
        in_cases, in_controls = heights[default.case], heights[~default.case]
        effect = (in_cases.mean() - in_controls.mean()) / in_controls.std()
        if mz in disease:
            assert effect * disease[mz].direction > 0.3
        else:
            others.append(abs(effect))
    assert np.quantile(others, 0.9) < 0.25


def test_peaks_grow_wider_with_mz(default: Rendered) -> None:
    mean = default.counts.mean(axis=0)
    widths = []
    for low, high in [(2_000, 3_500), (12_000, 20_000)]:
        inside = [mz for mz in default.truth.peaks if low < mz < high]
        mz = max(inside, key=lambda mz: mean[np.abs(default.axis - mz).argmin()])
        near = np.abs(default.axis - mz) < mz / 100
        above = mean[near] - mean[near].min()
        widths.append((above * np.gradient(default.axis[near])).sum() / above.max())
    assert widths[1] > 3 * widths[0]


def test_baseline_decays(default: Rendered) -> None:
    mean = default.counts.mean(axis=0)
    octaves = [(default.axis > low) & (default.axis < 2 * low) for low in (2_500, 5_000, 10_000)]
    levels = [np.quantile(mean[octave], 0.1) for octave in octaves]  # between the peaks
    assert levels[0] > 1.5 * levels[1] > 2.25 * levels[2] > 0


def test_counts_are_whole_and_scans_of_a_patient_differ(default: Rendered) -> None:
    counts = default.counts[:200]
    assert counts.min() >= 0
    assert np.array_equal(counts, counts.round())  # shot noise of counted ions
    first = default.counts[default.sample_of_scan == default.sample_of_scan.iloc[-1]]
    assert len(np.unique(default.counts[:50].sum(axis=1))) == 50
    assert len(np.unique(first, axis=0)) == len(first)


def test_chemical_noise_exceeds_shot_noise_and_is_smooth() -> None:
    axis = make_axis(1024)
    flat = PeakList(np.linspace(10_000, 20_000, 60), np.zeros(60) + 1e-9, np.arange(8))
    patients = draw_patients(10, np.random.default_rng(0))
    patient = np.zeros(3_000, dtype=np.int64)
    blocks = render_scans(patients, patient, flat, axis, np.random.default_rng(1))
    start = np.concatenate(list(blocks))[:, :21].astype(float)  # at low m/z, without peaks
    start /= start.mean(axis=1, keepdims=True)  # every scan's own gain
    residual = start - start.mean(axis=0)
    assert residual.std() == pytest.approx(0.09, abs=0.015)  # shot noise alone: about 0.06
    neighbours = [np.corrcoef(residual[:, i], residual[:, i + 1])[0, 1] for i in range(20)]
    assert np.mean(neighbours) > 0.15


def test_spots_of_a_patient_differ_in_single_peaks(default: Rendered) -> None:
    mean = default.counts.mean(axis=0)
    height = [mean[np.abs(default.axis - mz).argmin()] for mz in default.truth.peaks]
    strong = [default.truth.peaks[p] for p in np.argsort(height)[-2:]]
    first, second = (
        np.log(default.counts[:, np.abs(default.axis - mz) < mz / 150].sum(axis=1)) for mz in strong
    )
    ratio = pd.Series(first - second).groupby(default.sample_of_scan.to_numpy())
    assert 0.08 < ratio.std().mean() < 0.25  # counting alone would give about 0.03


def test_intensity_varies_from_scan_to_scan(default: Rendered) -> None:
    gain = pd.Series(np.log(default.counts.sum(axis=1)))
    within_patient = gain.groupby(default.sample_of_scan.to_numpy()).std()
    assert 0.2 < within_patient.mean() < 0.5


@pytest.mark.slow
def test_calibration_varies_between_scans_and_plates() -> None:
    axis, mz = make_axis(2048), np.linspace(3_000, 19_000, 60)
    single = PeakList(mz, np.where(np.arange(60) == 30, 1e9, 1e-9), np.arange(8))
    patients = draw_patients(1_500, np.random.default_rng(0))  # 20 plates
    patient = np.repeat(np.arange(1_500), 2)
    blocks = render_scans(patients, patient, single, axis, np.random.default_rng(1))
    counts = np.concatenate(list(blocks)).astype(float)
    shift = pd.Series((counts @ axis) / counts.sum(axis=1) / mz[30] - 1)
    assert shift.groupby(patient).std().mean() > 0.5e-4
    assert shift.groupby(patients.plate[patient]).mean().std() > 1e-4
    assert shift.abs().max() < 2.5e-3  # half a width at half maximum


def test_plates_shift_the_spectra(default: Rendered) -> None:
    spectra, plate = default.patient_spectra, default.samples["plate"].to_numpy()

    def between(plates: np.ndarray) -> np.ndarray:
        return pd.DataFrame(spectra).groupby(plates).mean().var().to_numpy()

    shuffled = np.random.default_rng(0).permutation(plate)
    assert np.median(between(plate) / between(shuffled)) > 3


def test_a_tenth_of_the_blood_values_is_missing(default: Rendered) -> None:
    missing = default.samples[list(BLOOD_VALUES)].isna()
    assert missing.mean().mean() == pytest.approx(0.10, abs=0.015)
    assert not default.samples.drop(columns=list(BLOOD_VALUES)).isna().any().any()


@pytest.mark.slow
def test_logistic_regression_comes_near_the_ceilings(
    default: Rendered,
) -> None:
    covariates = default.samples[list(default.truth.numeric)].copy()
    covariates[list(BLOOD_VALUES)] = np.log(covariates[list(BLOOD_VALUES)])
    spectral = make_pipeline(
        PCA(40, random_state=0), StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)
    )
    tabular = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    reached = []
    for seed in range(4):
        fitted, held_out = _split(default.case, seed)
        logits = []
        for model, inputs in [(spectral, default.patient_spectra), (tabular, covariates.values)]:
            model.fit(inputs[fitted], default.case[fitted])
            logits.append(model.decision_function(inputs[held_out]))
        scores = (logits[0], logits[1], logits[0] + logits[1])
        reached.append([roc_auc_score(default.case[held_out], score) for score in scores])
    spectra, tabular_auroc, fusion = np.mean(reached, axis=0)
    assert 0.85 < spectra < 0.93
    assert 0.73 < tabular_auroc < 0.83
    assert 0.89 < fusion < 0.96
    assert fusion > max(spectra, tabular_auroc) + 0.02


@pytest.mark.slow
def test_who_knows_the_peaks_comes_near_the_best_auroc() -> None:
    """Areas where a scan's calibration puts the peaks, and their likelihood ratio as if exact."""
    settings = SimulationSettings(
        main_effects=0.0, interactions=0.6, subtypes=6, calibration_shift=3.0
    )
    peak_rng, patient_rng, rng, warp_rng = map(np.random.default_rng, range(1, 5))
    peaks, axis = draw_peaks(peak_rng, settings), make_axis(2_048)
    patients = draw_patients(800, patient_rng, settings)
    scan_patient = np.repeat(np.arange(800), 4)
    warp = draw_warp(len(scan_patient), settings.calibration_shift, warp_rng)
    blocks = render_scans(patients, scan_patient, peaks, axis, rng, warp)
    counts = np.concatenate(list(blocks)).astype(float)

    index = np.interp(peaks.position, axis, np.arange(len(axis)))
    spacing = np.interp(peaks.position, axis, np.gradient(axis))
    centre = np.rint(index + displacement(warp, index, len(axis))).astype(int)
    areas = []
    for number, width in enumerate(np.ceil(peaks.position / RESOLVING_POWER / spacing)):
        half = int(max(2, width))
        near = centre[:, number, None] + np.arange(-3 * half, 3 * half + 1)
        part = np.take_along_axis(counts, near.clip(0, len(axis) - 1), axis=1)
        baseline = np.quantile(part, 0.15, axis=1)[:, None]
        areas.append((part - baseline)[:, 2 * half : 4 * half + 1].sum(axis=1))
    height = np.log(np.clip(areas, 1.0, None)).T
    height -= np.median(height, axis=1, keepdims=True)  # of the scan's gain
    frame = pd.DataFrame(height.reshape(800, 4, -1).mean(axis=1))
    frame -= frame.groupby(patients.plate).transform("mean")
    controls = frame[~patients.case]
    latents = ((frame - controls.mean()) / controls.std()).to_numpy()
    seen = Patients(
        patients.case,
        patients.plate,
        patients.covariates,
        *(latents[:, of] for of in (peaks.disease, peaks.pairs, peaks.subtypes)),
    )
    best = auroc_of_ratios(patients, settings)["spectra"]
    assert best - 0.04 < auroc_of_ratios(seen, settings)["spectra"] < best + 0.005


@pytest.mark.slow
def test_interactions_leave_linear_models_at_chance(tmp_path: Path) -> None:
    settings = SimulationSettings(main_effects=0.0, interactions=0.6)
    found = Rendered(simulate_cohort(tmp_path / "c", 5, 600, 1_024, 4, settings))
    linear = make_pipeline(StandardScaler(), PCA(40, random_state=0), LogisticRegression(C=0.01))
    scores = cross_val_predict(
        linear, found.patient_spectra, found.case, cv=5, method="decision_function"
    )
    assert roc_auc_score(found.case, scores) == pytest.approx(0.5, abs=0.08)
    oracle = pd.read_csv(found.truth.root / "truth.csv")["spectra"]
    assert roc_auc_score(found.case, oracle) > 0.85


def _split(case: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training and the test side of a 70/15/15 split."""
    rows = np.arange(len(case))
    rest, test = train_test_split(rows, test_size=0.15, stratify=case, random_state=seed)
    train, _ = train_test_split(rest, test_size=0.15 / 0.85, stratify=case[rest], random_state=seed)
    return train, test

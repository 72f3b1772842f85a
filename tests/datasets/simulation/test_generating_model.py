from __future__ import annotations

from math import sqrt

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, ks_2samp, multivariate_normal, norm
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from datasets.simulation.generating_model import (
    BLOOD_VALUE_EFFECTS,
    DISEASE_PEAK_DIRECTIONS,
    DISEASE_PEAK_EFFECTS,
    MISSING_RATE,
    PEAKS_PER_SUBTYPE,
    SUBTYPE_EFFECT,
    auroc_of_ratios,
    bayes_auroc,
    draw_patients,
    log_likelihood_ratios,
)
from datasets.simulation.settings import (
    BLOOD_VALUES,
    CATEGORICAL,
    NUMERIC,
    SimulationSettings,
)

# Main effects, interactions and subtypes at once, from weak ones so that no part hides another.
ALL_EFFECTS = SimulationSettings(main_effects=0.4, interactions=0.5, subtypes=3)
PAIRS_ONLY = SimulationSettings(main_effects=0.0, interactions=0.6)


def test_ceilings_are_those_stated() -> None:
    ceilings = bayes_auroc()
    assert ceilings["covariates"] == pytest.approx(0.80, abs=0.01)
    assert ceilings["spectra"] == pytest.approx(0.92, abs=0.01)
    assert ceilings["both"] == pytest.approx(0.95, abs=0.01)


def test_ceilings_are_the_auroc_of_the_likelihood_ratio() -> None:
    patients = draw_patients(200_000, np.random.default_rng(7))
    for name, ratio in log_likelihood_ratios(patients).items():
        assert roc_auc_score(patients.case, ratio) == pytest.approx(bayes_auroc()[name], abs=0.004)


def test_likelihood_ratios_are_those_of_the_gaussian_densities() -> None:
    patients = draw_patients(300, np.random.default_rng(8))
    covariates = np.zeros(300)
    for name, effect in BLOOD_VALUE_EFFECTS.items():
        median, log_sd = BLOOD_VALUES[name]
        logs = np.log(patients.covariates[name])
        in_cases = norm.logpdf(logs, np.log(median) + effect * log_sd, log_sd)
        in_controls = norm.logpdf(logs, np.log(median), log_sd)
        covariates += np.where(logs.isna(), 0.0, in_cases - in_controls)
    means = np.array(DISEASE_PEAK_EFFECTS) * DISEASE_PEAK_DIRECTIONS
    latents = patients.disease_latents
    spectra = (norm.logpdf(latents, means) - norm.logpdf(latents)).sum(axis=1)
    ratios = log_likelihood_ratios(patients)
    np.testing.assert_allclose(ratios["covariates"], covariates, atol=1e-9)
    np.testing.assert_allclose(ratios["spectra"], spectra, atol=1e-9)
    np.testing.assert_allclose(ratios["both"], covariates + spectra, atol=1e-9)


def test_missing_values_lower_the_ceiling_of_covariates_only() -> None:
    whole, none = bayes_auroc(missing_rate=0.0), bayes_auroc(missing_rate=1.0)
    separation = sqrt(sum(effect**2 for effect in BLOOD_VALUE_EFFECTS.values()))
    assert whole["covariates"] == pytest.approx(norm.cdf(separation / sqrt(2)))
    assert bayes_auroc()["covariates"] < whole["covariates"] - 0.01
    assert none["covariates"] == pytest.approx(0.5)
    assert none["both"] == pytest.approx(none["spectra"]) == pytest.approx(whole["spectra"])


def test_plate_missingness_and_others_ignore_the_label() -> None:
    patients = draw_patients(20_000, np.random.default_rng(9))
    case, covariates = patients.case, patients.covariates
    unlikely = 1e-3
    assert chi2_contingency(pd.crosstab(patients.plate, case)).pvalue > unlikely
    for name in BLOOD_VALUES:
        missing = covariates[name].isna()
        assert missing.mean() == pytest.approx(MISSING_RATE, abs=0.01)
        assert chi2_contingency(pd.crosstab(missing, case)).pvalue > unlikely
    covariates["sex"] = covariates["sex"] == "M"
    for name in [*NUMERIC, *CATEGORICAL]:
        seen = covariates[name].notna()
        auroc = roc_auc_score(case[seen], covariates[name][seen])
        if name in BLOOD_VALUE_EFFECTS:
            assert abs(auroc - 0.5) > 0.2
        else:
            assert auroc == pytest.approx(0.5, abs=0.02)


def test_informative_values_and_peaks_go_up_and_down() -> None:
    assert set(BLOOD_VALUE_EFFECTS) == {"GGT", "albumin"}
    assert len(BLOOD_VALUES) == 5
    assert len(DISEASE_PEAK_EFFECTS) == len(DISEASE_PEAK_DIRECTIONS) == 8
    assert set(DISEASE_PEAK_DIRECTIONS) == {-1, 1}


def test_ratios_of_pairs_and_subtypes_are_those_of_their_densities() -> None:
    settings = SimulationSettings(main_effects=0.0, interactions=0.5, subtypes=3, covariates="none")
    patients = draw_patients(300, np.random.default_rng(8), settings)
    r = settings.interactions
    in_cases, in_controls = (multivariate_normal(cov=[[1, s], [s, 1]]).logpdf for s in (r, -r))
    expected = (in_cases(patients.pair_latents) - in_controls(patients.pair_latents)).sum(axis=1)
    # The density of a case is the mean of those of its subtypes.
    of_subtypes = []
    for number in range(settings.subtypes):
        means = np.zeros((settings.subtypes, PEAKS_PER_SUBTYPE))
        means[number] = SUBTYPE_EFFECT
        of_subtypes.append(norm.pdf(patients.subtype_latents, means).prod(axis=(1, 2)))
    expected += np.log(np.mean(of_subtypes, axis=0))
    expected -= norm.logpdf(patients.subtype_latents).sum(axis=(1, 2))
    ratios = log_likelihood_ratios(patients, settings)
    np.testing.assert_allclose(ratios["spectra"], expected, atol=1e-9)
    np.testing.assert_array_equal(ratios["both"], ratios["spectra"])


@pytest.mark.parametrize(
    "settings",
    [
        SimulationSettings(main_effects=0.5, covariates="few"),
        SimulationSettings(covariates="none"),
        ALL_EFFECTS,
    ],
    ids=["weak and few", "no covariates", "all effects"],
)
def test_the_oracle_attains_the_best_auroc(settings: SimulationSettings) -> None:
    ceilings = bayes_auroc(settings=settings)
    reached = auroc_of_ratios(draw_patients(200_000, np.random.default_rng(7), settings), settings)
    assert set(reached) == set(ceilings)
    for name, auroc in reached.items():
        assert auroc == pytest.approx(ceilings[name], abs=0.004)


def test_likelihood_ratios_are_calibrated() -> None:
    # Of a true ratio, the mean of p(case) over any draw is the prevalence, and p(case) is observed.
    patients = draw_patients(200_000, np.random.default_rng(3), ALL_EFFECTS)
    ratio = log_likelihood_ratios(patients, ALL_EFFECTS)["both"]
    odds = np.exp(ratio) * patients.case.mean() / (1 - patients.case.mean())
    probability = odds / (1 + odds)
    for low, high in [(0.0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 0.9), (0.9, 1.0)]:
        inside = (probability >= low) & (probability < high)
        assert inside.sum() > 5_000
        observed = patients.case[inside].mean()
        assert observed == pytest.approx(probability[inside].mean(), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [ALL_EFFECTS, PAIRS_ONLY], ids=["all effects", "pairs"])
def test_no_model_of_the_latents_beats_the_best_auroc(settings: SimulationSettings) -> None:
    patients = draw_patients(4_000, np.random.default_rng(5), settings)
    n = len(patients.case)
    latents = [patients.disease_latents, patients.pair_latents, patients.subtype_latents]
    inputs = np.hstack([part.reshape(n, -1) for part in latents])
    best = auroc_of_ratios(patients, settings)["spectra"]
    for model in (
        LogisticRegression(),
        QuadraticDiscriminantAnalysis(),
        ExtraTreesClassifier(200, min_samples_leaf=3, random_state=0),
    ):
        scores = cross_val_predict(model, inputs, patients.case, cv=5, method="predict_proba")
        assert roc_auc_score(patients.case, scores[:, 1]) < best + 0.005


def test_a_peak_of_a_pair_alone_does_not_know_the_label() -> None:
    patients = draw_patients(50_000, np.random.default_rng(6), PAIRS_ONLY)
    case, pairs = patients.case, patients.pair_latents
    for one in pairs.reshape(len(case), -1).T:
        assert ks_2samp(one[case], one[~case]).pvalue > 1e-3
    correlation = [np.corrcoef(pairs[of, 0].T)[0, 1] for of in (case, ~case)]
    assert correlation == pytest.approx([0.6, -0.6], abs=0.02)
    assert roc_auc_score(case, pairs.sum(axis=(1, 2))) == pytest.approx(0.5, abs=0.02)
    assert bayes_auroc(settings=PAIRS_ONLY)["spectra"] > 0.85


def test_each_case_shows_the_peaks_of_one_subtype() -> None:
    patients = draw_patients(40_000, np.random.default_rng(6), SimulationSettings(subtypes=4))
    of_case = patients.subtype_latents[patients.case]
    subtype = of_case.mean(axis=2).argmax(axis=1)  # most often the true one
    assert np.bincount(subtype) / len(subtype) == pytest.approx([0.25] * 4, abs=0.02)
    assert of_case.mean(axis=(0, 2)) == pytest.approx([SUBTYPE_EFFECT / 4] * 4, abs=0.03)
    # One set is raised and the others are not: two sets of a case correlate negatively.
    sets = of_case.mean(axis=2)
    assert np.corrcoef(sets.T)[0, 1] < -0.1
    in_controls = patients.subtype_latents[~patients.case]
    assert in_controls.mean(axis=(0, 2)) == pytest.approx([0] * 4, abs=0.03)


@pytest.mark.parametrize(
    ("covariates", "columns"),
    [("few", {"age", "sex", "albumin"}), ("none", set())],
)
def test_covariates_may_be_few_or_absent(covariates: str, columns: set[str]) -> None:
    settings = SimulationSettings(covariates=covariates)  # type: ignore[arg-type]
    whole = draw_patients(50, np.random.default_rng(0))
    patients = draw_patients(50, np.random.default_rng(0), settings)
    assert set(patients.covariates) == columns
    pd.testing.assert_frame_equal(patients.covariates, whole.covariates[[*patients.covariates]])
    np.testing.assert_array_equal(patients.disease_latents, whole.disease_latents)
    ceilings = bayes_auroc(settings=settings)
    # Albumin of both patients is seen, of one, or of none.
    of_albumin = 0.81 * norm.cdf(0.9 / sqrt(2)) + 0.18 * norm.cdf(0.9 / 2) + 0.01 * 0.5
    assert ceilings["covariates"] == pytest.approx(of_albumin if columns else 0.5)
    assert ceilings["spectra"] == pytest.approx(bayes_auroc()["spectra"])

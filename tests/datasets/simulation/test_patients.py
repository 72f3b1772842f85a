from __future__ import annotations

from math import sqrt

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, norm
from sklearn.metrics import roc_auc_score

from datasets.simulation.generating_model import (
    BLOOD_VALUE_EFFECTS,
    BLOOD_VALUES,
    CATEGORICAL,
    DISEASE_PEAK_DIRECTIONS,
    DISEASE_PEAK_EFFECTS,
    MISSING_RATE,
    NUMERIC,
    bayes_auroc,
    draw_patients,
    log_likelihood_ratios,
)


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

"""Calibration in the large and slope: known shifts and factors, and what has neither."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from engine.statistics import calibration_in_the_large, calibration_slope


@pytest.fixture
def well_calibrated():
    rng = np.random.default_rng(0)
    probabilities = expit(rng.normal(-0.5, 1.5, 20_000))
    return probabilities, rng.random(20_000) < probabilities


def test_perfect_probabilities_have_neither_shift_nor_factor(well_calibrated):
    assert calibration_in_the_large(*well_calibrated) == pytest.approx(0, abs=0.05)
    assert calibration_slope(*well_calibrated) == pytest.approx(1, abs=0.05)


def test_the_log_odds_that_were_taken_off_are_found(well_calibrated):
    probabilities, positive = well_calibrated
    shifted = expit(logit(probabilities) - 0.8)
    assert calibration_in_the_large(shifted, positive) == pytest.approx(0.8, abs=0.05)
    assert calibration_slope(shifted, positive) == pytest.approx(1, abs=0.05)


def test_probabilities_twice_as_extreme_have_a_slope_of_a_half(well_calibrated):
    probabilities, positive = well_calibrated
    extreme = expit(2 * logit(probabilities))
    assert calibration_slope(extreme, positive) == pytest.approx(0.5, abs=0.03)


def test_the_slope_is_that_of_an_unpenalised_logistic_regression(well_calibrated):
    probabilities, positive = (of[:300] for of in well_calibrated)
    inputs = logit(probabilities)[:, None]
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(inputs, positive).coef_[0, 0]
    assert calibration_slope(probabilities, positive) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("probabilities", "positive"),
    [
        ([0.1, 0.2, 0.3], [False, False, False]),
        ([0.1, 0.2, 0.3], [True, True, True]),
        ([0.5, 0.5, 0.5], [True, False, True]),
        ([0.1, 0.2, 0.9], [False, False, True]),
        ([0.9, 0.8, 0.1], [False, False, True]),
    ],
    ids=["no positive", "no negative", "equal", "separated", "turned round"],
)
def test_without_information_the_slope_is_undefined(probabilities, positive):
    assert np.isnan(calibration_slope(np.array(probabilities), np.array(positive)))


def test_of_one_class_the_shift_is_undefined():
    assert np.isnan(calibration_in_the_large(np.array([0.2, 0.4]), np.array([True, True])))


def test_probabilities_of_0_and_1_are_finite_log_odds():
    probabilities = np.array([0, 1, 0, 1, 0.5, 0.4])
    positive = np.array([False, True, True, False, True, False])
    assert np.isfinite(calibration_slope(probabilities, positive))
    assert np.isfinite(calibration_in_the_large(probabilities, positive))

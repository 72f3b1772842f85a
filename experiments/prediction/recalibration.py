"""How far probabilities are from observed frequencies: logistic recalibration."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

# Probabilities nearer to 0 or 1 have log-odds as of these.
NEAREST = 1e-9
# The slope's steps; Newton's method on two parameters needs about six.
MOST_STEPS, TOLERANCE = 50, 1e-8
# An intercept beyond this many log-odds is not bounded by the data.
WIDEST = 40.0


def calibration_in_the_large(probabilities: np.ndarray, positive: np.ndarray) -> float:
    """Log-odds to add so that the mean probability is the observed frequency; 0 is perfect.

    Above 0 the probabilities are too low. Of N probabilities and bool [N]; NaN with one class only.
    Source: Cox 1958, "Two further applications of a model for binary regression"; Van Calster et
    al. 2019, "Calibration: the Achilles heel of predictive analytics".
    """
    log_odds = _log_odds(probabilities)
    observed = positive.mean()
    if not 0 < observed < 1:
        return math.nan

    def missed(shift: float) -> float:
        return float(expit(log_odds + shift).mean() - observed)

    if missed(-WIDEST) > 0 or missed(WIDEST) < 0:
        return math.nan
    return float(brentq(missed, -WIDEST, WIDEST))


def calibration_slope(probabilities: np.ndarray, positive: np.ndarray) -> float:
    """The factor of the log-odds that fits the outcomes best, beside an intercept; 1 is perfect.

    Below 1 the probabilities are too extreme. NaN with one class only, where the log-odds are all
    equal, or where they separate the classes: then no factor is large enough. Sources as above.
    """
    log_odds = _log_odds(probabilities)
    if positive.all() or not positive.any() or np.ptp(log_odds) == 0:
        return math.nan
    of_positives, of_negatives = log_odds[positive], log_odds[~positive]
    if of_positives.min() >= of_negatives.max() or of_positives.max() <= of_negatives.min():
        return math.nan
    centre, spread = log_odds.mean(), log_odds.std()
    inputs = np.stack([np.ones_like(log_odds), (log_odds - centre) / spread])  # [2, N]
    factors = np.zeros(2)
    for _ in range(MOST_STEPS):
        fitted = expit(factors @ inputs)
        curvature = (inputs * (fitted * (1 - fitted))) @ inputs.T
        if np.linalg.det(curvature) <= np.finfo(np.float64).tiny:
            return math.nan
        step = np.linalg.solve(curvature, inputs @ (positive - fitted))
        factors += step
        if np.abs(step).max() < TOLERANCE:
            return float(factors[1] / spread)
    return math.nan


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    log_odds: np.ndarray = logit(np.clip(probabilities, NEAREST, 1 - NEAREST))
    return log_odds

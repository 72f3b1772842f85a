"""Calibration error, temperature scaling, and logistic recalibration."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit, logit
from torch import Tensor
from torch.nn.functional import one_hot

from engine.metrics import (
    BINS,
    CLASSES,
    TASKS,
    UNDEFINED,
    EpochOutputs,
    brier,
    expected_calibration_error,
    log_loss,
)

# Limits of a temperature that the data do not bound: the likelihood grows as it falls if all
# samples are separated, and as it rises if the model is worse than chance. Networks need 0.9 to 3
# (Guo et al. 2017).
LOWEST, HIGHEST = 0.05, 20.0
# Probabilities nearer to 0 or 1 have log-odds as of these.
NEAREST = 1e-9
# The slope's steps; Newton's method on two parameters needs about six.
MOST_STEPS, TOLERANCE = 50, 1e-8
# An intercept beyond this many log-odds is not bounded by the data.
WIDEST = 40.0


@dataclass(frozen=True)
class Reliability:
    """Observed frequency (``share``) per bin of confidence with samples, [K], and three metrics."""

    confidence: np.ndarray
    share: np.ndarray
    count: np.ndarray
    ece: float
    brier: float
    log_loss: float


@dataclass(frozen=True)
class Calibration:
    """Temperature scaling, fitted on the validation set; the test set ``before`` and ``after`` it.

    The temperature divides the logits; above 1 the model was overconfident.
    """

    temperature: float
    before: Reliability
    after: Reliability
    task: str = "binary"

    @property
    def at_limit(self) -> bool:
        """Whether the validation set did not bound the temperature."""
        return self.temperature in (LOWEST, HIGHEST)


def fit_temperature(logits: Tensor, target: Tensor, task: str) -> float:
    """The temperature of least negative log-likelihood, from ``LOWEST`` to ``HIGHEST``.

    Guo et al. 2017. The likelihood is convex in the inverse temperature, and least where its slope
    is zero; of labels that of all decisions together. The samples must not be training samples. NaN
    without samples, with one class only, if a logit is not finite, or if the logits of each sample
    are equal.
    """
    if task == "regression":
        raise ValueError("a regression has no probabilities to calibrate")
    if len(target.unique()) < 2 or not torch.isfinite(logits).all():
        return UNDEFINED
    logits, scores = logits.double(), TASKS[task].scores
    if task in CLASSES:  # a constant offset of all classes changes no probability
        logits = logits - logits.amax(dim=1, keepdim=True)
    if not logits.any():
        return UNDEFINED
    truth = one_hot(target, logits.shape[1]) if task in CLASSES else (target > 0).double()

    def slope(inverse: float) -> float:
        """Of the log-likelihood's negative, which rises with the inverse temperature."""
        return float(((scores(inverse * logits) - truth) * logits).sum() / len(logits))

    if slope(1 / LOWEST) <= 0:
        return LOWEST
    if slope(1 / HIGHEST) >= 0:
        return HIGHEST
    return 1 / float(brentq(slope, 1 / HIGHEST, 1 / LOWEST))


def reliability(probabilities: Tensor, target: Tensor) -> Reliability:
    """Confidence against observed frequency, in the bins of the metric ``ece``.

    Of two classes the positive one's probability; of more that of the predicted class and its
    accuracy; of labels the probabilities of all together.
    """
    if target.ndim == 2:
        confidence, hit = probabilities.flatten(), target.flatten() > 0
    elif probabilities.shape[1] == 2:
        confidence, hit = probabilities[:, 1], target == 1
    else:
        confidence, likeliest = probabilities.max(dim=1)
        hit = likeliest == target
    bounds = torch.linspace(0, 1, BINS + 1, dtype=confidence.dtype)
    # A confidence of 1 belongs to the last bin.
    number = torch.bucketize(confidence.contiguous(), bounds, right=True).clamp(max=BINS).numpy()
    count = np.bincount(number)
    held = count > 0
    sums = [np.bincount(number, weights=of.double().numpy()) for of in (confidence, hit)]
    confidences, frequency = (of[held] / count[held] for of in sums)
    return Reliability(
        confidences,
        frequency,
        count[held],
        expected_calibration_error(probabilities, target),
        brier(probabilities, target),
        log_loss(probabilities, target),
    )


def calibrate(val: EpochOutputs, test: EpochOutputs) -> Calibration | None:
    """Fit the temperature on the validation set and apply it to the test set; None without one."""
    if test.task == "regression" or not torch.isfinite(test.logits).all():
        return None
    temperature = fit_temperature(val.logits, val.target, val.task)
    if math.isnan(temperature):
        return None
    cooled = TASKS[test.task].scores(test.logits.double() / temperature)
    return Calibration(
        temperature,
        reliability(test.probabilities, test.target),
        reliability(cooled, test.target),
        test.task,
    )


def calibration_in_the_large(probabilities: np.ndarray, positive: np.ndarray) -> float:
    """Log-odds to add so that the mean probability is the observed frequency; 0 is perfect.

    Above 0 the probabilities are too low. Of N probabilities and bool [N]; NaN with one class only.
    Source: Cox 1958, "Two further applications of a model for binary regression"; Van Calster et
    al. 2019, "Calibration: the Achilles heel of predictive analytics".
    """
    log_odds = _log_odds(probabilities)
    observed = positive.mean()
    if not 0 < observed < 1:
        return UNDEFINED

    def missed(shift: float) -> float:
        return float(expit(log_odds + shift).mean() - observed)

    if missed(-WIDEST) > 0 or missed(WIDEST) < 0:
        return UNDEFINED
    return float(brentq(missed, -WIDEST, WIDEST))


def calibration_slope(probabilities: np.ndarray, positive: np.ndarray) -> float:
    """The factor of the log-odds that fits the outcomes best, beside an intercept; 1 is perfect.

    Below 1 the probabilities are too extreme. NaN with one class only, where the log-odds are all
    equal, or where they separate the classes: then no factor is large enough. Sources as above.
    """
    log_odds = _log_odds(probabilities)
    if positive.all() or not positive.any() or np.ptp(log_odds) == 0:
        return UNDEFINED
    of_positives, of_negatives = log_odds[positive], log_odds[~positive]
    if of_positives.min() >= of_negatives.max() or of_positives.max() <= of_negatives.min():
        return UNDEFINED
    centre, spread = log_odds.mean(), log_odds.std()
    inputs = np.stack([np.ones_like(log_odds), (log_odds - centre) / spread])  # [2, N]
    factors = np.zeros(2)
    for _ in range(MOST_STEPS):
        fitted = expit(factors @ inputs)
        curvature = (inputs * (fitted * (1 - fitted))) @ inputs.T
        if np.linalg.det(curvature) <= np.finfo(np.float64).tiny:
            return UNDEFINED
        step = np.linalg.solve(curvature, inputs @ (positive - fitted))
        factors += step
        if np.abs(step).max() < TOLERANCE:
            return float(factors[1] / spread)
    return UNDEFINED


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    log_odds: np.ndarray = logit(np.clip(probabilities, NEAREST, 1 - NEAREST))
    return log_odds

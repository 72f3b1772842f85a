"""Calibration error and temperature scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
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


@dataclass(frozen=True)
class Reliability:
    """Observed frequency per bin of confidence, and scores of the probabilities.

    Attributes:
        confidence: The mean of each bin with samples, [K]; so are ``share``, the observed
            frequency, and ``count``.
        ece: Expected calibration error.
        brier: Brier score.
        log_loss: Mean of -log of the true class's probability, in nats.
    """

    confidence: np.ndarray
    share: np.ndarray
    count: np.ndarray
    ece: float
    brier: float
    log_loss: float


@dataclass(frozen=True)
class Calibration:
    """Temperature scaling, fitted on the validation set.

    Attributes:
        temperature: Divides the logits; above 1 the model was overconfident.
        before: The test set as predicted.
        after: The test set with the logits divided.
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

    Guo et al. 2017, "On Calibration of Modern Neural Networks". The likelihood is convex in the
    inverse temperature, and least where its slope is zero; of labels that of all decisions
    together.

    Args:
        logits: [N, C], of samples that the model was not trained on.
        target: Class numbers long [N], or labels (0 or 1) [N, T].
        task: Any but ``regression``, which is a ValueError.

    Returns:
        NaN without samples, with one class only, if a logit is not finite, or if the logits of
        each sample are equal.

    Example:
        >>> logits = torch.tensor([[3.0, 0.0]] * 4 + [[0.0, 3.0]] * 4)
        >>> target = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])  # right in three of four
        >>> round(fit_temperature(logits, target, "binary"), 3)
        2.731
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
    accuracy; of labels the probabilities of all together. The three scores are the metrics of those
    names.

    Example:
        >>> likely, target = torch.tensor([0.9, 0.9, 0.9, 0.2]), torch.tensor([1, 1, 0, 0])
        >>> found = reliability(torch.stack([1 - likely, likely], dim=1), target)
        >>> found.confidence.round(3), found.share.round(3), found.count
        (array([0.2, 0.9]), array([0.   , 0.667]), array([1, 3]))
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
    """Fit the temperature on the validation set and apply it to the test set.

    Returns:
        None for a regression, and if there is no temperature (:func:`fit_temperature`) or a test
        logit is not finite.
    """
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

"""Whether probabilities can be taken at their word, and one number that mends them."""

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

# Beyond these a temperature says only that the data do not bound it: where all samples are told
# apart the likelihood grows for ever as it falls, and where the model is worse than chance as it
# rises. Networks were found to need 0.9 to 3 (Guo et al. 2017).
LOWEST, HIGHEST = 0.05, 20.0


@dataclass(frozen=True)
class Reliability:
    """How often what was said with a confidence was the case.

    Attributes:
        confidence: The mean confidence of each bin that holds samples, [K].
        share: How often it was the case, [K].
        count: Samples, [K].
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
    """Temperature scaling, fitted on the validation side.

    Attributes:
        temperature: What the logits are divided by; above 1 the model was too sure of itself.
        before: The test side as the model says it.
        after: The test side with the logits divided.
        task: ``binary``, ``multiclass`` or ``multilabel``.
    """

    temperature: float
    before: Reliability
    after: Reliability
    task: str = "binary"

    @property
    def at_limit(self) -> bool:
        """Whether the validation side set no bound, so that the temperature is a limit's."""
        return self.temperature in (LOWEST, HIGHEST)


def fit_temperature(logits: Tensor, target: Tensor, task: str) -> float:
    """The temperature that makes what was the case most likely.

    Guo et al. 2017, "On Calibration of Modern Neural Networks": the logits are divided by one
    number, by which no ranking and no likeliest class changes. The mean negative log-likelihood is
    convex in that number's inverse, so that it is least where its slope is zero; of labels that
    of all decisions together. The temperature is kept from ``LOWEST`` to ``HIGHEST``.

    Args:
        logits: [N, C], of a side that the model was not trained on.
        target: Class numbers long [N], or labels (0 or 1) [N, T].
        task: ``binary``, ``multiclass`` or ``multilabel``.

    Returns:
        Above 1 where the model is too sure of itself; NaN where no sample, or one class only, is
        there, where a logit is not finite, or where none differs from the others of its sample.

    Raises:
        ValueError: A regression has no probabilities.

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
    if task in CLASSES:  # what all classes have alike changes no probability
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
    """Confidence against what was the case, in the bins of the metric ``ece``.

    Of two classes the positive one's probability and how often it was the case; of more that of
    the likeliest class and how often it was right; of labels the probabilities of all of them
    together. The three figures are the metrics of those names: of labels the mean over them.

    Args:
        probabilities: [N, C], or of labels [N, T].
        target: Class numbers long [N], or labels (0 or 1) [N, T].

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
    said, was = (of[held] / count[held] for of in sums)
    return Reliability(
        said,
        was,
        count[held],
        expected_calibration_error(probabilities, target),
        brier(probabilities, target),
        log_loss(probabilities, target),
    )


def calibrate(val: EpochOutputs, test: EpochOutputs) -> Calibration | None:
    """Fit the temperature on the validation side and see what it does for the test side.

    Args:
        val: Chooses the temperature.
        test: Is measured before and after.

    Returns:
        None of a regression, and where the validation side gives no temperature
        (:func:`fit_temperature`) or a test logit is not finite.
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

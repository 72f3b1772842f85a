"""Weights of models whose logits are added, from predictions of samples they were not fitted to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax


def stack_weights(
    logits: Sequence[np.ndarray],
    targets: np.ndarray,
    task: str,
    *,
    base: np.ndarray | float = 0.0,
    toward: float = 1.0,
    most: float | None = None,
    bias: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """A weight from 0, to ``most``, for each model [M], and a bias [C], by the least loss.

    ``logits`` (of a regression values) are [N, C] for each model; ``base`` is added as it is.
    ``targets`` are classes [N], labels [N, T] or values [N, T]. The loss is the sum over samples of
    the log loss, or of half the squared error. A penalty, half the squared distance of each weight
    to ``toward``, decides where the samples do not. A model that helps nothing gets weight 0
    (Breiman 1996, "Stacked regressions": weights from 0 keep a stack from fitting to noise).
    """
    stacked = np.stack([np.asarray(each, dtype=np.float64) for each in logits])
    models, _, width = stacked.shape

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights = parameters[:models]
        scores = np.tensordot(weights, stacked, axes=1) + parameters[models:] + base
        value, slope = _loss(scores, targets, task)
        away = weights - toward
        gradient = np.tensordot(stacked, slope, axes=([1, 2], [0, 1])) + away
        return value + 0.5 * (away**2).sum(), np.append(gradient, slope.sum(axis=0))

    start = np.append(np.full(models, toward), np.zeros(width))
    bounds = [(0, most)] * models + [(None, None) if bias else (0, 0)] * width
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found[:models], found[models:]


def mean_loss(logits: np.ndarray, targets: np.ndarray, task: str) -> float:
    """Mean log loss of logits [N, C], or half the mean squared error of values."""
    return _loss(logits, targets, task)[0] / len(logits)


def _loss(scores: np.ndarray, targets: np.ndarray, task: str) -> tuple[float, np.ndarray]:
    """The loss of logits or values [N, C], summed, and its derivative by each."""
    if task == "regression":
        return 0.5 * float(((scores - targets) ** 2).sum()), scores - targets
    if task == "multilabel":
        value = (np.logaddexp(0, scores) - targets * scores).sum()
        return float(value), expit(scores) - targets
    labels = np.eye(scores.shape[1])[targets]
    value = -(labels * log_softmax(scores, axis=1)).sum()
    return float(value), softmax(scores, axis=1) - labels

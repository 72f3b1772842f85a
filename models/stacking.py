"""Weights of models whose logits are added, from predictions of samples they were not fitted to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, softmax


def stack_weights(
    logits: Sequence[np.ndarray], targets: np.ndarray, task: str, toward: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """A weight of at least 0 for each model [M], and a bias [C], by the least out-of-fold loss.

    ``logits`` (of a regression values) are [N, C] for each model; ``targets`` are classes [N],
    labels [N, T] or values [N, T]. The loss is the sum over samples of the log loss, or of half the
    squared error. A penalty, half the squared distance of each weight to ``toward``, decides where
    the samples do not. A model that helps nothing gets weight 0 (Breiman 1996, "Stacked
    regressions": weights from 0 keep a stack from fitting to noise).
    """
    stacked = np.stack([np.asarray(each, dtype=np.float64) for each in logits])
    models, _, width = stacked.shape
    labels = _labels(targets, width, task)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = parameters[:models], parameters[models:]
        value, slope = _loss(np.tensordot(weights, stacked, axes=1) + bias, labels, task)
        away = weights - toward
        gradient = np.tensordot(stacked, slope, axes=([1, 2], [0, 1])) + away
        return value + 0.5 * (away**2).sum(), np.append(gradient, slope.sum(axis=0))

    start = np.append(np.full(models, toward), np.zeros(width))
    bounds = [(0, None)] * models + [(None, None)] * width
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found[:models], found[models:]


def share_of_rest(base: np.ndarray, rest: np.ndarray, targets: np.ndarray, task: str) -> float:
    """The share from 0 to 1 of ``rest`` that is best added to ``base``, both [N, C].

    Loss and penalty are as for :func:`stack_weights`, toward 0.
    """
    labels = _labels(targets, base.shape[1], task)

    def loss(share: float) -> float:
        return _loss(base + share * rest, labels, task)[0] + 0.5 * share**2

    return float(minimize_scalar(loss, bounds=(0, 1), method="bounded").x)


def _labels(targets: np.ndarray, width: int, task: str) -> np.ndarray:
    """Indicators of classes [N, C], labels or values as they are."""
    return np.asarray(targets) if task in ("regression", "multilabel") else np.eye(width)[targets]


def _loss(scores: np.ndarray, labels: np.ndarray, task: str) -> tuple[float, np.ndarray]:
    """The loss of logits or values [N, C], summed, and its derivative by each."""
    if task == "regression":
        return 0.5 * float(((scores - labels) ** 2).sum()), scores - labels
    if task == "multilabel":
        value = (np.logaddexp(0, scores) - labels * scores).sum()
        return float(value), expit(scores) - labels
    value = -(labels * log_softmax(scores, axis=1)).sum()
    return float(value), softmax(scores, axis=1) - labels

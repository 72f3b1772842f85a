"""Metrics, each from the scores and targets of a whole epoch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from statistics import fmean

import torch
from sklearn.metrics import matthews_corrcoef
from torch import Tensor

from engine.metrics.probability import brier, expected_calibration_error, log_loss
from engine.metrics.ranking import (
    area_under_roc,
    average_precision,
    recall_at_fpr,
    specificity_at_sensitivity,
)
from engine.metrics.tasks import THRESHOLD, likeliest

UNDEFINED = float("nan")

Metric = Callable[[Tensor, Tensor], float]


def accuracy(scores: Tensor, target: Tensor) -> float:
    """The share of samples [N] whose likeliest class (of [N, C]) is the true one.

    Of labels [N, T] the share of all that are rightly said to be there or not.
    """
    if target.ndim == 2:
        return float(((scores >= THRESHOLD) == (target > 0)).double().mean())
    return float((likeliest(scores) == target).double().mean())


def balanced_accuracy(scores: Tensor, target: Tensor) -> float:
    """The mean of the classes' recalls (Brodersen et al. 2010); of labels the mean over them.

    Undefined where a class has no sample.
    """
    if target.ndim == 2:
        said, true = scores >= THRESHOLD, target > 0
        return fmean(
            _mean_recall(said[:, t].long(), true[:, t].long(), 2) for t in range(target.shape[1])
        )
    return _mean_recall(likeliest(scores), target, scores.shape[1])


def _mean_recall(said: Tensor, true: Tensor, classes: int) -> float:
    counts = torch.bincount(true, minlength=classes)
    hits = torch.bincount(true[said == true], minlength=classes)
    return float((hits.double() / counts).mean())  # 0 / 0, and so the mean, is NaN


def mcc(scores: Tensor, target: Tensor) -> float:
    """Matthews' correlation of what is said with what is (Gorodkin 2004 for several classes).

    Undefined where all samples are, or are said to be, of one class. Of labels the mean over them.
    """
    if target.ndim == 2:
        said, true = (scores >= THRESHOLD).long(), (target > 0).long()
        return fmean(_correlation(said[:, t], true[:, t]) for t in range(target.shape[1]))
    return _correlation(likeliest(scores), target)


def _correlation(said: Tensor, true: Tensor) -> float:
    if len(said.unique()) < 2 or len(true.unique()) < 2:
        return UNDEFINED
    return float(matthews_corrcoef(true.numpy(), said.numpy()))


def _by_counts(share: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Metric:
    """The mean over the classes [C] or labels [T] of a share of their counts.

    ``share`` is given how often each is rightly said, is said, and is true. Where it is 0 / 0 for
    one of them the mean is undefined, too.
    """

    def metric(scores: Tensor, target: Tensor) -> float:
        if target.ndim == 2:
            said, true = scores >= THRESHOLD, target > 0
        else:
            width = scores.shape[1]
            classes = torch.arange(1 if width == 2 else 0, width)
            said, true = likeliest(scores)[:, None] == classes, target[:, None] == classes
        hits = (said & true).sum(dim=0)
        return float(share(hits.double(), said.sum(dim=0), true.sum(dim=0)).mean())

    return metric


def _by_ranking(area: Callable[[Tensor, Tensor], float]) -> Metric:
    def metric(scores: Tensor, target: Tensor) -> float:
        width = scores.shape[1]
        if target.ndim == 2:
            positive = target > 0
            if not (positive.any(dim=0) & ~positive.all(dim=0)).all():
                return UNDEFINED
            return fmean(area(scores[:, t], positive[:, t]) for t in range(width))
        if not torch.bincount(target, minlength=width).all():
            return UNDEFINED
        ranked = (1,) if width == 2 else range(width)
        return fmean(area(scores[:, c], target == c) for c in ranked)

    return metric


def mae(predictions: Tensor, target: Tensor) -> float:
    """Mean absolute error of [N, T], the mean over the targets."""
    return float((predictions.double() - target.double()).abs().mean())


def mse(predictions: Tensor, target: Tensor) -> float:
    """Mean squared error of [N, T], the mean over the targets."""
    return float((predictions.double() - target.double()).square().mean())


def rmse(predictions: Tensor, target: Tensor) -> float:
    """Root of the mean squared error of each target, the mean over the targets."""
    return float((predictions.double() - target.double()).square().mean(dim=0).sqrt().mean())


def r2(predictions: Tensor, target: Tensor) -> float:
    """Coefficient of determination, the mean over the targets.

    Undefined where a target is the same in all samples.
    """
    target = target.double()
    # Equal values may miss their mean by a rounding, so that their spread is not quite 0.
    if (target == target[0]).all(dim=0).any():
        return UNDEFINED
    spread = (target - target.mean(dim=0)).square().sum(dim=0)
    missed = (predictions.double() - target).square().sum(dim=0)
    return float((1 - missed / spread).mean())


# Each takes probabilities [N, C] and target [N]; for two classes class 1 is the positive one,
# for more the mean over the classes (one against the rest) is taken. Several labels are
# probabilities [N, T] and target [N, T]: the mean over the labels. NaN where a metric, or what it
# is a mean of, is undefined: a ranking without one of the classes, the precision of what is never
# said, the recall of what never occurs.
CLASSIFICATION_METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "precision": _by_counts(lambda hits, said, true: hits / said),
    "recall": _by_counts(lambda hits, said, true: hits / true),
    "f1": _by_counts(lambda hits, said, true: 2 * hits / (said + true)),
    "auroc": _by_ranking(area_under_roc),
    "auprc": _by_ranking(average_precision),
}
# Those that are computed where a configuration asks for them.
FURTHER_METRICS: dict[str, Metric] = {
    "balanced_accuracy": balanced_accuracy,
    "mcc": mcc,
    "brier": brier,
    "log_loss": log_loss,
    "ece": expected_calibration_error,
    "recall_at_fpr": _by_ranking(functools.partial(recall_at_fpr, fpr=0.1)),
    "specificity_at_sensitivity": _by_ranking(
        functools.partial(specificity_at_sensitivity, sensitivity=0.9)
    ),
}
# Each takes predictions [N, T] and target [N, T], in the targets' units.
REGRESSION_METRICS: dict[str, Metric] = {"mae": mae, "mse": mse, "rmse": rmse, "r2": r2}
METRICS: dict[str, Metric] = {**CLASSIFICATION_METRICS, **FURTHER_METRICS, **REGRESSION_METRICS}
# Metrics at a demand, which ``@`` sets: ``recall_at_fpr@0.05``.
DEMANDS: dict[str, Callable[[float], Metric]] = {
    "recall_at_fpr": lambda fpr: _by_ranking(functools.partial(recall_at_fpr, fpr=fpr)),
    "specificity_at_sensitivity": lambda sensitivity: _by_ranking(
        functools.partial(specificity_at_sensitivity, sensitivity=sensitivity)
    ),
}


def find_metric(name: str) -> Metric:
    """The metric of that name: a key of ``METRICS``, or one of ``DEMANDS`` with ``@`` a number.

    Raises:
        KeyError: There is none.

    Example:
        >>> scores, target = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), torch.arange(3) % 2
        >>> find_metric("recall_at_fpr@0.5")(scores, target)
        1.0
    """
    base, _, demand = name.partition("@")
    if not demand:
        return METRICS[name]
    return DEMANDS[base](float(demand))

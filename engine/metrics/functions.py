"""Metrics, each from the scores and targets of a whole epoch."""

import functools
from collections.abc import Callable
from statistics import fmean

import numpy as np
import torch
from sklearn.metrics import matthews_corrcoef
from torch import Tensor
from torchmetrics.functional import classification as tm

from engine.metrics.tasks import THRESHOLD, UNDEFINED, likeliest

# Of the calibration error (Guo et al. 2017).
BINS = 15


def _over_labels(of_label: Callable[[Tensor, Tensor], float]) -> Callable[[Tensor, Tensor], float]:
    """The mean over the labels [N, T]; a single label is two classes."""

    def metric(scores: Tensor, target: Tensor) -> float:
        if target.ndim == 1:
            return of_label(scores, target)
        both = torch.stack([1 - scores, scores], dim=-1)  # [N, T, 2]
        return fmean(
            of_label(both[:, t], (target[:, t] > 0).long()) for t in range(target.shape[1])
        )

    return metric


@_over_labels
def brier(scores: Tensor, target: Tensor) -> float:
    """Mean squared error of probabilities [N, C] (Brier 1950): of the positive one, or the sum."""
    missed = scores - torch.nn.functional.one_hot(target, scores.shape[1])
    share = 0.5 if scores.shape[1] == 2 else 1.0
    return float(share * missed.square().sum(dim=1).mean())


@_over_labels
def log_loss(scores: Tensor, target: Tensor) -> float:
    """Mean of ``-log`` of the true class's probability, in nats, clipped as in scikit-learn."""
    least = torch.finfo(scores.dtype).eps
    true = scores.gather(1, target[:, None]).clamp(least, 1 - least)
    return float(-true.log().mean())


@_over_labels
def expected_calibration_error(scores: Tensor, target: Tensor) -> float:
    """Mean |confidence - observed frequency| over 15 equal bins (Guo et al. 2017)."""
    # A confidence of 1 belongs to the last bin: torchmetrics would give it a separate one.
    scores = scores.clamp(max=1 - torch.finfo(scores.dtype).eps)
    if scores.shape[1] == 2:
        likely = scores[:, 1].contiguous()
        return float(tm.binary_calibration_error(likely, target, BINS, validate_args=False))
    classes = scores.shape[1]
    found = tm.multiclass_calibration_error(scores, target, classes, BINS, validate_args=False)
    return float(found)


def area_under_roc(scores: Tensor, positive: Tensor) -> float:
    """The probability that a positive sample scores above a negative one; a tie counts half.

    One sort in NumPy, ten times faster than torch's on a CPU. As in the next ones scores [N] are
    finite, and ``positive``, bool [N], has both values.
    """
    true, false = _counts_by_threshold(scores, positive)
    # Trapezoids: between two thresholds positives and negatives of one score are tied.
    height = true + np.concatenate(([0], true[:-1]))
    width = np.diff(false, prepend=0)
    return float((height * width).sum() / (2 * true[-1] * false[-1]))


def average_precision(scores: Tensor, positive: Tensor) -> float:
    """The step-wise area under the precision-recall curve (Davis and Goadrich 2006)."""
    true, false = _counts_by_threshold(scores, positive)
    found = np.diff(true, prepend=0)
    return float((found * true / (true + false)).sum() / true[-1])


def recall_at_fpr(scores: Tensor, positive: Tensor, fpr: float) -> float:
    """The highest recall with at most this share of the negatives predicted positive."""
    true, false = _counts_by_threshold(scores, positive)
    return float(true[false / false[-1] <= fpr].max(initial=0.0) / true[-1])


def specificity_at_sensitivity(scores: Tensor, positive: Tensor, sensitivity: float) -> float:
    """The highest specificity with at least this share of the positives found."""
    true, false = _counts_by_threshold(scores, positive)
    least = false[true / true[-1] >= sensitivity].min()
    # A sensitivity of 0 is reached before any sample is predicted positive.
    return float(1 - (least / false[-1] if sensitivity > 0 else 0.0))


def _counts_by_threshold(scores: Tensor, positive: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives that reach each distinct score, the highest first; as float64."""
    falling = -scores.numpy()
    order = falling.argsort()
    falling = falling[order]
    last_of_score = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    true = positive.numpy()[order].cumsum()[last_of_score].astype(np.float64)
    return true, last_of_score + 1.0 - true


Metric = Callable[[Tensor, Tensor], float]


def accuracy(scores: Tensor, target: Tensor) -> float:
    """The share of correct predictions, of samples [N] or of labels [N, T]."""
    if target.ndim == 2:
        return float(((scores >= THRESHOLD) == (target > 0)).double().mean())
    return float((likeliest(scores) == target).double().mean())


def _by_decision(of_classes: Callable[[Tensor, Tensor, int], float]) -> Metric:
    """A metric of the predicted classes, the true ones and their number; of labels the mean."""

    def metric(scores: Tensor, target: Tensor) -> float:
        if target.ndim == 1:
            return of_classes(likeliest(scores), target, scores.shape[1])
        labels = zip((scores >= THRESHOLD).long().T, (target > 0).long().T, strict=True)
        return fmean(of_classes(*label, 2) for label in labels)

    return metric


@_by_decision
def balanced_accuracy(predicted: Tensor, true: Tensor, classes: int) -> float:
    """The mean recall of the classes (Brodersen et al. 2010), NaN if one has no sample."""
    counts = torch.bincount(true, minlength=classes)
    hits = torch.bincount(true[predicted == true], minlength=classes)
    return float((hits.double() / counts).mean())


@_by_decision
def mcc(predicted: Tensor, true: Tensor, classes: int) -> float:
    """Matthews' correlation coefficient (Gorodkin 2004), NaN if one of both is constant."""
    if len(predicted.unique()) < 2 or len(true.unique()) < 2:
        return UNDEFINED
    return float(matthews_corrcoef(true.numpy(), predicted.numpy()))


def _by_counts(share: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Metric:
    """The mean of a ratio of the true positives, the predicted and the true ones of each class."""

    def metric(scores: Tensor, target: Tensor) -> float:
        if target.ndim == 2:
            predicted, true = scores >= THRESHOLD, target > 0
        else:
            width = scores.shape[1]
            classes = torch.arange(1 if width == 2 else 0, width)
            predicted, true = likeliest(scores)[:, None] == classes, target[:, None] == classes
        hits = (predicted & true).sum(dim=0)
        return float(share(hits.double(), predicted.sum(dim=0), true.sum(dim=0)).mean())

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
    """Root mean squared error of each target, the mean over the targets."""
    return float((predictions.double() - target.double()).square().mean(dim=0).sqrt().mean())


def r2(predictions: Tensor, target: Tensor) -> float:
    """Coefficient of determination, the mean over the targets; undefined for a constant target."""
    target = target.double()
    # By rounding, the spread of equal values may not be quite 0.
    if (target == target[0]).all(dim=0).any():
        return UNDEFINED
    spread = (target - target.mean(dim=0)).square().sum(dim=0)
    missed = (predictions.double() - target).square().sum(dim=0)
    return float((1 - missed / spread).mean())


# Each takes probabilities [N, C] and target [N]; for two classes class 1 is the positive one,
# for more the mean over the classes (one against the rest) is taken. Labels are probabilities
# [N, T] and target [N, T]: the mean over the labels. NaN if a metric, or a part of its mean, is
# undefined: a ranking without one of the classes, precision when no positive is predicted, recall
# without positives.
CLASSIFICATION_METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "precision": _by_counts(lambda hits, predicted, true: hits / predicted),
    "recall": _by_counts(lambda hits, predicted, true: hits / true),
    "f1": _by_counts(lambda hits, predicted, true: 2 * hits / (predicted + true)),
    "auroc": _by_ranking(area_under_roc),
    "auprc": _by_ranking(average_precision),
}
# Metrics with a demand after ``@``: ``recall_at_fpr@0.05``.
DEMANDS: dict[str, Callable[[float], Metric]] = {
    "recall_at_fpr": lambda fpr: _by_ranking(functools.partial(recall_at_fpr, fpr=fpr)),
    "specificity_at_sensitivity": lambda sensitivity: _by_ranking(
        functools.partial(specificity_at_sensitivity, sensitivity=sensitivity)
    ),
}
# Not among the default metrics.
FURTHER_METRICS: dict[str, Metric] = {
    "balanced_accuracy": balanced_accuracy,
    "mcc": mcc,
    "brier": brier,
    "log_loss": log_loss,
    "ece": expected_calibration_error,
    "recall_at_fpr": DEMANDS["recall_at_fpr"](0.1),
    "specificity_at_sensitivity": DEMANDS["specificity_at_sensitivity"](0.9),
}
# Each takes predictions [N, T] and target [N, T], in the targets' units.
REGRESSION_METRICS: dict[str, Metric] = {"mae": mae, "mse": mse, "rmse": rmse, "r2": r2}
METRICS: dict[str, Metric] = {**CLASSIFICATION_METRICS, **FURTHER_METRICS, **REGRESSION_METRICS}


def find_metric(name: str) -> Metric:
    """The metric of that name: a key of ``METRICS``, or one of ``DEMANDS`` with ``@`` a number."""
    base, _, demand = name.partition("@")
    return DEMANDS[base](float(demand)) if demand else METRICS[name]

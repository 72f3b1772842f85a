"""The tasks: what a model's logits mean in each, and what it is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from engine.errors import UsageError, nearest
from engine.metric_functions import (
    CLASSIFICATION_METRICS,
    DEMANDS,
    FURTHER_METRICS,
    REGRESSION_METRICS,
    THRESHOLD,
    likeliest,
)
from engine.sample_statistics import ATTENTION_STATISTICS, SAMPLE_STATISTICS

Mode = Literal["max", "min"]


def softmax(logits: Tensor) -> Tensor:
    """Probabilities of classes [N, C], in double precision so that close scores stay apart."""
    # Along the first axis softmax works on whole rows: three times faster for few classes.
    return logits.double().T.contiguous().softmax(dim=0).T.contiguous()


def sigmoid(logits: Tensor) -> Tensor:
    """Probabilities of labels [N, T], each by itself, in double precision."""
    return logits.double().sigmoid()


def likely(probabilities: Tensor) -> Tensor:
    """Whether each label is rather there than not, long [N, T]."""
    return (probabilities >= THRESHOLD).long()


def as_it_is(values: Tensor) -> Tensor:
    """The values themselves, [N, T]."""
    return values


@dataclass(frozen=True)
class Task:
    """What distinguishes a task.

    Attributes:
        name: Its key in ``TASKS``.
        scores: From logits to scores: probabilities, or the values of a regression.
        decide: From scores to what is said: classes, labels, or values.
        metrics: The metrics that are taken by default; one of ``further`` at a demand may be
            among them.
        further: Others that apply, sample statistics among them.
        monitor: The metric that by default says which epoch is the best, and ...
        mode: ... whether that is its largest value (``max``) or its smallest (``min``).
    """

    name: str
    scores: Callable[[Tensor], Tensor]
    decide: Callable[[Tensor], Tensor]
    metrics: tuple[str, ...]
    monitor: str = "val/auroc"
    mode: Mode = "max"
    further: tuple[str, ...] = ()


CLASSES = ("binary", "multiclass")
_CLASSIFICATION, _REGRESSION = tuple(CLASSIFICATION_METRICS), tuple(REGRESSION_METRICS)
_BINARY = (*_CLASSIFICATION, "recall_at_fpr@0.05")
_FURTHER, _OF_ATTENTION = (*FURTHER_METRICS, *SAMPLE_STATISTICS), tuple(ATTENTION_STATISTICS)
TASKS = {
    "binary": Task("binary", softmax, likeliest, _BINARY, further=_FURTHER),
    "multiclass": Task("multiclass", softmax, likeliest, _CLASSIFICATION, further=_FURTHER),
    "multilabel": Task("multilabel", sigmoid, likely, _CLASSIFICATION, further=_FURTHER),
    "regression": Task(
        "regression", as_it_is, as_it_is, _REGRESSION, "val/mae", "min", _OF_ATTENTION
    ),
}
# Beside all losses and their terms.
SMALLER_IS_BETTER = ("mae", "mse", "rmse", "brier", "ece")


def task_of(logits: Tensor) -> str:
    """The classification that logits [N, C] are of: ``binary`` for two classes."""
    return "binary" if logits.shape[1] == 2 else "multiclass"


def check_metrics(names: tuple[str, ...], task: str | None) -> None:
    """Refuse metrics that do not exist, or do not fit a task.

    Args:
        names: Of metrics.
        task: A key of ``TASKS``; None for a classification of either kind.

    Raises:
        UsageError: Says which do fit.
    """
    if task is not None and task not in TASKS:
        raise UsageError(f"no task is called '{task}'{nearest(task, TASKS)}")
    chosen = TASKS[task or "multiclass"]
    fitting = tuple(dict.fromkeys((*chosen.metrics, *chosen.further)))
    for name in names:
        base = _check_demand(name)
        if base in fitting:
            continue
        if any(base in (*other.metrics, *other.further) for other in TASKS.values()):
            of = task or "classification"
            raise UsageError(f"metric '{name}' does not fit {of} (choices: {', '.join(fitting)})")
        raise UsageError(f"no metric is called '{name}'{nearest(name, fitting)}")


def _check_demand(name: str) -> str:
    """The metric's name without the demand behind ``@``, which must be a number from 0 to 1."""
    base, at, demand = name.partition("@")
    if not at:
        return name
    if base not in DEMANDS:
        raise UsageError(f"metric '{name}' takes no '@'{nearest(base, DEMANDS)}")
    try:
        share = float(demand)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"metric '{name}': a number from 0 to 1 was expected behind '@'")
    return base


def better_when(metric: str) -> Mode | None:
    """``min`` for metrics that are better when smaller (losses, errors), ``max`` for the others.

    Of how attention is spread neither is better: to follow it downwards, set ``min``. None for a
    metric that is not of this package.

    Example:
        >>> better_when("val/auroc"), better_when("val/aux_spec_loss"), better_when("val/mae")
        ('max', 'min', 'min')
    """
    name = metric.rpartition("/")[2].partition("@")[0]
    if name.endswith("loss") or name in SMALLER_IS_BETTER:
        return "min"
    return "max" if name in known_metrics() else None


def known_metrics() -> list[str]:
    """The names of all metrics of all tasks."""
    return list(dict.fromkeys(n for task in TASKS.values() for n in (*task.metrics, *task.further)))

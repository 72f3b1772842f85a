"""Custom metrics: functions of scores and targets, and torchmetrics objects."""

import inspect
import numbers
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchmetrics
from torch import Tensor

from datasets.errors import UsageError, one_line
from engine.metrics.tasks import RESERVED, TASKS, UNDEFINED

# First parameters of functions that take the target before the scores, as scikit-learn's do.
TARGET_FIRST = ("target", "targets", "y_true", "y", "label", "labels", "labels_true")
CLASSIFICATION_FAMILY = "torchmetrics.classification"
# Prefix of the classes there -> the tasks whose scores and targets they take.
FAMILIES = {
    "Binary": ("binary", "multilabel"),
    "Multiclass": ("binary", "multiclass"),
    "Multilabel": ("multilabel",),
}
# Random samples per class, label or target that a metric is tried on.
TRIED_SAMPLES = 16


@dataclass(frozen=True)
class CustomMetric:
    """A custom metric under its name (without prefix), for the ``tasks`` that it fits.

    ``compute`` makes a number of scores and target: probabilities [N, C] and classes long [N];
    probabilities [N, T] and labels (0 or 1) float [N, T]; or predictions and values [N, T].
    """

    name: str
    compute: Callable[[Tensor, Tensor], Any]
    tasks: Sequence[str] = tuple(TASKS)

    def check_task(self, task: str) -> None:
        """Raise UsageError for a task that it does not fit."""
        if task not in self.tasks:
            fitting = ", ".join(self.tasks)
            raise UsageError(f"metric '{self.name}' does not fit {task} (choices: {fitting})")

    def __call__(self, scores: Tensor, target: Tensor) -> float:
        """The value; NaN if the function raises ValueError or ArithmeticError."""
        try:
            return self.strictly(scores, target)
        except (ValueError, ArithmeticError) as error:
            if isinstance(error, UsageError):
                raise
            return UNDEFINED

    def strictly(self, scores: Tensor, target: Tensor) -> float:
        """The value; exceptions of the function are raised."""
        value = self.compute(scores.clone(), target.clone())  # it may write to its arguments
        if getattr(value, "ndim", None) is not None and getattr(value, "size", None) is not None:
            elements = value.numel() if isinstance(value, Tensor) else value.size
            value = value.item() if elements == 1 else value
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            shape = list(value.shape) if hasattr(value, "shape") else ""
            found = f"{type(value).__name__} {shape}".rstrip()
            raise UsageError(f"metric '{self.name}' must return one number, not {found}")
        return float(value)


def custom_metric(metric: Any, name: str | None = None) -> CustomMetric:
    """A function or torchmetrics object as a metric of the engine.

    Metrics of ``torchmetrics.classification`` get the target as long, and the ``Binary...`` ones of
    two classes the positive class's probability [N]; others get scores and target unchanged.
    ``name`` is by default its own, or its class's. UsageError if it is not callable, its name is
    missing or taken, or it takes the target first.

    Example:
        >>> def share_of_positives(scores, target):
        ...     return scores[:, 1].mean()
        >>> metric = custom_metric(share_of_positives)
        >>> metric.name, metric(torch.tensor([[0.25, 0.75]]), torch.tensor([1]))
        ('share_of_positives', 0.75)
    """
    if isinstance(metric, CustomMetric):
        return metric
    named = name or getattr(metric, "__name__", None) or type(metric).__name__
    if isinstance(metric, type) or not callable(metric):
        what = f"the class {metric.__name__}" if isinstance(metric, type) else repr(metric)
        expected = "a function f(scores, target) or a torchmetrics object"
        raise UsageError(f"a metric must be {expected}, not {what}")
    if not named.isidentifier():
        raise UsageError(f"the metric {named} has no name: define it by def, not as a lambda")
    if named in RESERVED:
        raise UsageError(f"metric '{named}' is called as something else is; rename it")
    if isinstance(metric, torchmetrics.Metric):
        return _of_torchmetrics(metric, named)
    first = next(iter(_parameters(metric)), "")
    if first in TARGET_FIRST:
        raise UsageError(
            f"metric '{named}' takes '{first}' first; a metric is called as f(scores, target), so "
            "write a function that turns them round"
        )
    return CustomMetric(named, metric)


def custom_metrics(metrics: Iterable[Any]) -> dict[str, CustomMetric]:
    """The custom ones among metrics, by name; UsageError if two have one name."""
    found: dict[str, CustomMetric] = {}
    for metric in metrics:
        if isinstance(metric, str):
            continue
        own = custom_metric(metric)
        if own.name in found:
            raise UsageError(f"two metrics are called '{own.name}'; rename one")
        found[own.name] = own
    return found


def try_metric(metric: CustomMetric, task: str, width: int) -> None:
    """UsageError for a metric that fails on random samples of a task, of the width C or T."""
    metric.check_task(task)
    generator = torch.Generator().manual_seed(0)
    count = TRIED_SAMPLES * width
    logits = torch.randn(count, width, generator=generator)
    target = torch.arange(count) % width
    if task == "multilabel":
        target = ((torch.arange(count)[:, None] + torch.arange(width)) % 2).float()
    elif task == "regression":
        target = logits + torch.randn(count, width, generator=generator)
    scores = TASKS[task].scores(logits)
    try:
        metric.strictly(scores, target)
    except UsageError:
        raise
    except Exception as error:  # whatever a user's code raises
        reason = one_line(error) or type(error).__name__
        given = f"scores {list(scores.shape)} and target {list(target.shape)} of {task}"
        raise UsageError(f"metric '{metric.name}' does not take {given}: {reason}") from error


def _of_torchmetrics(metric: torchmetrics.Metric, name: str) -> CustomMetric:
    for part in metric.modules():
        if isinstance(part, torchmetrics.Metric):
            part.sync_on_compute = False  # each process has all samples already
    kinds = type(metric).__mro__
    bases = [k.__name__ for k in kinds if k.__module__.startswith(CLASSIFICATION_FAMILY)]
    family = next((f for f in FAMILIES for base in bases if base.startswith(f)), None)

    def compute(scores: Tensor, target: Tensor) -> Any:
        if family == "Binary" and target.ndim == 1:
            scores = scores[:, 1]
        metric.reset()
        metric.update(scores, target.long() if family else target)
        value = metric.compute()
        metric.reset()
        return value

    return CustomMetric(name, compute, FAMILIES[family] if family else tuple(TASKS))


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except ValueError:  # some builtins have none
        return []

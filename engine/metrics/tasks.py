"""The tasks, the metrics that fit each, and the metric that is monitored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from datasets.errors import UsageError, nearest

if TYPE_CHECKING:
    from torch import Tensor

Mode = Literal["max", "min"]

UNDEFINED = float("nan")
# From this probability on a label is predicted to be there.
THRESHOLD = 0.5
# Names only: a configuration is checked by them without the seconds that torch takes to import.
CLASSIFICATION = ("accuracy", "precision", "recall", "f1", "auroc", "auprc")
# Metrics at a demand, which ``@`` sets: ``recall_at_fpr@0.05``.
AT_DEMAND = ("recall_at_fpr", "specificity_at_sensitivity")
# Computed where a configuration asks for them.
FURTHER = ("balanced_accuracy", "mcc", "brier", "log_loss", "ece", *AT_DEMAND)
REGRESSION = ("mae", "mse", "rmse", "r2")
OF_MODALITIES = ("modality_consistency", "modality_agreement")
OF_ATTENTION = ("attention_entropy", "effective_scans")


def softmax(logits: Tensor) -> Tensor:
    """Probabilities of classes [N, C], in double precision so that close scores differ."""
    # Along the first axis softmax works on whole rows: three times faster for few classes.
    return logits.double().T.contiguous().softmax(dim=0).T.contiguous()


def sigmoid(logits: Tensor) -> Tensor:
    """Probabilities of labels [N, T], in double precision."""
    return logits.double().sigmoid()


def likeliest(scores: Tensor) -> Tensor:
    """The class of the highest score of [N, C], long [N]; of equals the first."""
    if scores.shape[1] == 2:
        return (scores[:, 1] > scores[:, 0]).long()  # ten times faster than the search
    return scores.argmax(dim=1)


def likely(probabilities: Tensor) -> Tensor:
    """Whether each label is predicted, long [N, T]."""
    return (probabilities >= THRESHOLD).long()


def as_is(values: Tensor) -> Tensor:
    """The values themselves, [N, T]."""
    return values


@dataclass(frozen=True)
class Task:
    """A task: from logits to ``scores``, from those to predictions, and the metrics that fit.

    ``monitor`` selects the best epoch by default; ``further`` are metrics on request.
    """

    scores: Callable[[Tensor], Tensor]
    decide: Callable[[Tensor], Tensor]
    metrics: tuple[str, ...]
    monitor: str = "val/auroc"
    mode: Mode = "max"
    further: tuple[str, ...] = ()


CLASSES = ("binary", "multiclass")
_BINARY = (*CLASSIFICATION, "recall_at_fpr@0.05")
_FURTHER = (*FURTHER, *OF_MODALITIES, *OF_ATTENTION)
TASKS = {
    "binary": Task(softmax, likeliest, _BINARY, further=_FURTHER),
    "multiclass": Task(softmax, likeliest, CLASSIFICATION, further=_FURTHER),
    "multilabel": Task(sigmoid, likely, CLASSIFICATION, further=_FURTHER),
    "regression": Task(as_is, as_is, REGRESSION, "val/mae", "min", OF_ATTENTION),
}
# A monitor that selects nothing: the last epoch is the best.
LAST_EPOCH = "last"
# In the unit of the target.
IN_UNITS = ("mae", "mse", "rmse")
# Besides all losses and their terms.
SMALLER_IS_BETTER = ("mae", "mse", "rmse", "brier", "ece")


def task_of(logits: Tensor) -> str:
    """``binary`` for logits [N, 2], else ``multiclass``."""
    return "binary" if logits.shape[1] == 2 else "multiclass"


def by_target(names: Sequence[str], targets: Sequence[str]) -> list[str]:
    """The metrics of a regression of several targets, which may have different units.

    Errors are computed per target, in its unit (``mae[age]``); ``r2``, which has none, also over
    all.
    """
    if len(targets) < 2:
        return list(names)
    found: list[str] = []
    for name in names:
        found += [] if name in IN_UNITS else [name]
        if name in REGRESSION:
            found += [f"{name}[{target}]" for target in targets]
    return list(dict.fromkeys(found))


def split_target(name: str) -> tuple[str, str | None]:
    """A metric's own name, and its target or None (``mae[age]``)."""
    base, bracket, target = name.partition("[")
    return (base, target[:-1]) if bracket and target.endswith("]") else (name, None)


def check_metrics(names: tuple[str, ...], task: str | None, targets: Sequence[str] = ()) -> None:
    """UsageError for metrics that do not exist, or do not fit a task; None is a classification."""
    if task is not None and task not in TASKS:
        raise UsageError(f"no task is called '{task}'{nearest(task, TASKS)}")
    chosen = TASKS[task or "multiclass"]
    fitting = tuple(dict.fromkeys((*chosen.metrics, *chosen.further)))
    for name in names:
        own, target = split_target(name)
        if target is not None and own not in REGRESSION:
            own = name
        base = _check_demand(own)
        if base in fitting:
            _check_target(name, own, target, targets)
            continue
        if base in KNOWN:
            of = task or "classification"
            raise UsageError(f"metric '{name}' does not fit {of} (choices: {', '.join(fitting)})")
        raise UsageError(f"no metric is called '{name}'{nearest(name, fitting)}")


def _check_target(name: str, base: str, target: str | None, targets: Sequence[str]) -> None:
    """Refuse an unknown target, and an error of several targets in different units."""
    if target is not None and targets and target not in targets:
        choices = nearest(target, targets)
        raise UsageError(f"metric '{name}': no target is called '{target}'{choices}")
    if target is None and base in IN_UNITS and len(targets) > 1:
        choices = ", ".join([*by_target([base], targets), "r2"])
        without = f"has no one unit for {len(targets)} targets"
        raise UsageError(f"metric '{name}' {without} (choices: {choices})")


def _check_demand(name: str) -> str:
    """The metric's name without the demand after ``@``, which must be a number from 0 to 1."""
    base, at, demand = name.partition("@")
    if not at:
        return name
    if base not in AT_DEMAND:
        raise UsageError(f"metric '{name}' takes no '@'{nearest(base, AT_DEMAND)}")
    try:
        share = float(demand)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"metric '{name}': a number from 0 to 1 was expected behind '@'")
    return base


def better_when(metric: str) -> Mode | None:
    """``min`` for losses and errors, ``max`` for the package's other metrics, else None."""
    if metric == LAST_EPOCH:
        return "max"
    name = split_target(metric)[0].rpartition("/")[2].partition("@")[0]
    if name.endswith("loss") or name in SMALLER_IS_BETTER:
        return "min"
    return "max" if name in KNOWN else None


# Of all tasks.
KNOWN = tuple(dict.fromkeys(n for task in TASKS.values() for n in (*task.metrics, *task.further)))
# Names with a meaning in ``state.metrics``, which nothing else may have.
RESERVED = ("loss", "total_loss", "lr", *KNOWN)
MODES = ("max", "min")
# Decides between epochs with equal values of a monitor.
TIE_BREAK = "val/loss"


class Monitor:
    """Reads a metric (``val/auroc``) after an epoch and compares it.

    ``name`` ``last`` is the number of the epoch, by which the last one is the best. ``mode`` None
    is that of :func:`better_when`. ``user`` is the handler, for error messages. UsageError if
    ``mode`` is neither ``max`` nor ``min``, or unknown for the metric.
    """

    def __init__(self, name: str, mode: str | None, user: str) -> None:
        mode = better_when(name) if mode is None else mode
        if mode is None:
            subset, slash, metric = name.rpartition("/")
            close = get_close_matches(metric, [*KNOWN, "loss"], n=1)
            hint = f"; did you mean '{subset}{slash}{close[0]}'?" if close else ""
            raise UsageError(
                f"{user}.monitor: of '{name}' it is not known whether larger is better: set "
                f"{user}.mode to max or min{hint}"
            )
        if mode not in MODES:
            raise UsageError(f"{user}.mode: '{mode}' is neither max nor min{nearest(mode, MODES)}")
        self.name, self.mode, self.user = name, mode, user

    def attach(self, trainer: Any) -> None:
        """Have the name checked when training starts."""
        if self.name != LAST_EPOCH:
            trainer.monitor_metric(self.name, self.user)

    def read(self, trainer: Any) -> float | None:
        """This epoch's value; None if it was not measured."""
        if self.name == LAST_EPOCH:
            return float(trainer.state.epoch)
        value = trainer.state.metrics.get(self.name)
        return None if value is None else float(value)

    def is_better_epoch(
        self, value: float, loss: float | None, best: tuple[float, float | None] | None
    ) -> bool:
        """As :meth:`is_better`, but of equal values that with the lower validation loss is better.

        ``best`` are value and loss of the best epoch so far.
        """
        if best is None:
            return self.is_better(value, None)
        if value == best[0] and loss is not None and best[1] is not None:
            return loss < best[1]
        return self.is_better(value, best[0])

    def is_better(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Whether ``value`` beats ``best`` by more than ``min_delta``; NaN never does, any None."""
        if math.isnan(value):
            return False
        if best is None or math.isnan(best):
            return True
        gain = value - best if self.mode == "max" else best - value
        return gain > min_delta

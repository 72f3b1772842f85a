"""The outputs of an epoch, and a metric's value on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from datasets.errors import UsageError
from engine.metrics.custom import CustomMetric
from engine.metrics.functions import find_metric
from engine.metrics.sample_statistics import SAMPLE_STATISTICS
from engine.metrics.tasks import TASKS, UNDEFINED, check_metrics, split_target, task_of

Outputs = TypeVar("Outputs", bound="EpochOutputs")


@dataclass(frozen=True)
class EpochOutputs:
    """The outputs of one epoch, N samples, on the CPU.

    ``logits`` are [N, C] in the loader's order; of a regression the predicted values [N, T], in the
    targets' units, in double precision. ``target`` holds class numbers long [N], labels (0 or 1)
    float [N, T], or values float [N, T]. ``losses`` are means as of one batch with all samples.
    ``of_samples`` maps requested sample statistics to [N]; NaN where the model lacks their inputs.
    """

    logits: Tensor
    target: Tensor
    sample_id: list[str]
    losses: Mapping[str, float]
    task: str = ""
    of_samples: Mapping[str, Tensor] = field(default_factory=dict)
    custom: Mapping[str, CustomMetric] = field(default_factory=dict)
    targets: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Find the task."""
        if not self.task:
            object.__setattr__(self, "task", task_of(self.logits))

    @cached_property
    def scores(self) -> Tensor:
        """Probabilities, or a regression's predictions: the input of metrics."""
        return TASKS[self.task].scores(self.logits)

    @cached_property
    def diverged(self) -> bool:
        """Whether a score is NaN or infinite."""
        return not bool(torch.isfinite(self.scores).all())

    @property
    def probabilities(self) -> Tensor:
        """Of classes [N, C] or of labels [N, T], in double precision; a regression has none."""
        if self.task == "regression":
            raise AttributeError("a regression has predictions, but no probabilities")
        return self.scores

    @property
    def target_names(self) -> list[str]:
        """Names of a regression's targets, their numbers where they have none."""
        return list(self.targets) or [str(number) for number in range(self.logits.shape[1])]

    @property
    def predictions(self) -> Tensor:
        """Predicted classes long [N], labels (0 or 1) long [N, T], or values float [N, T]."""
        return TASKS[self.task].decide(self.scores)

    def take(self: Outputs, rows: Sequence[int]) -> Outputs:
        """The outputs of some samples, in the order of ``rows``."""
        chosen = list(rows)
        return replace(
            self,
            logits=self.logits[chosen],
            target=self.target[chosen],
            sample_id=[self.sample_id[row] for row in chosen],
            of_samples={name: kept[chosen] for name, kept in self.of_samples.items()},
        )


def metric_value(name: str, outputs: EpochOutputs, rows: Tensor | None = None) -> float:
    """A metric's value, NaN where it is undefined.

    ``rows`` are the samples to count, long [K], with repetitions. UsageError for a sample statistic
    that was not kept, or an error with a unit of several targets, of which ``name`` names none.
    """
    if name in SAMPLE_STATISTICS:
        if name not in outputs.of_samples:
            what = f"metric '{name}' was not kept with these outputs"
            raise UsageError(f"{what}: EpochMetrics was not asked")
        kept = outputs.of_samples[name]
        return float((kept if rows is None else kept[rows]).mean())
    if outputs.diverged:
        return UNDEFINED
    scores, target = outputs.scores, outputs.target
    if rows is not None:
        scores, target = scores[rows], target[rows]
    if name in outputs.custom:
        return outputs.custom[name](scores, target)
    if outputs.task == "regression":
        check_metrics((name,), outputs.task, outputs.target_names)
        name, own = split_target(name)
        if own is not None:
            column = outputs.target_names.index(own)
            scores, target = scores[:, column, None], target[:, column, None]
    return find_metric(name)(scores, target)

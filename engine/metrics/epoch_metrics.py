"""Metrics, computed once an epoch from the tensors that the steps left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from ignite.engine import Events
from torch import Tensor

from datasets.errors import UsageError
from engine.distributed import gather
from engine.events import OrderedEngine, Phase
from engine.metrics.custom import CustomMetric, custom_metric, custom_metrics
from engine.metrics.functions import METRICS, UNDEFINED, find_metric
from engine.metrics.sample_statistics import SAMPLE_STATISTICS
from engine.metrics.step_outputs import StepOutputs, joined
from engine.metrics.tasks import TASKS, by_target, check_metrics, split_target, task_of
from engine.model_call import aux_of

__all__ = ["METRICS", "EpochMetrics", "EpochOutputs", "metric_value"]

Outputs = TypeVar("Outputs", bound="EpochOutputs")


@dataclass(frozen=True)
class EpochOutputs:
    """What the steps of one epoch left behind, on the CPU.

    Attributes:
        logits: [N, C], in the loader's order; of a regression the predicted values [N, T], in the
            targets' units, in double precision.
        target: Class numbers long [N], labels (0 or 1) float [N, T], or values float [N, T].
        sample_id: The N samples' names.
        losses: Loss name -> its mean, that of one batch with all samples (with class weights: the
            sum of the weighted losses divided by the sum of the weights).
        task: A key of ``engine.metrics.TASKS``; where it is not given, a classification.
        of_samples: Name of a sample statistic (``engine.metrics.SAMPLE_STATISTICS``)
            that was asked for -> one number a sample [N]; NaN where the model does not return
            what it is of.
        custom: Name of a metric of the user's own -> the metric.
        targets: Names of a regression's T targets; none where they have only numbers.
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
        """What metrics are computed from: probabilities, or a regression's predictions."""
        return TASKS[self.task].scores(self.logits)

    @cached_property
    def diverged(self) -> bool:
        """Whether a score is NaN or infinite, so that no ranking or decision can be made."""
        return not bool(torch.isfinite(self.scores).all())

    @property
    def probabilities(self) -> Tensor:
        """Of classes [N, C] (they sum to 1) or of labels [N, T], in double precision.

        Raises:
            AttributeError: A regression has none.
        """
        if self.task == "regression":
            raise AttributeError("a regression has predictions, but no probabilities")
        return self.scores

    @property
    def target_names(self) -> list[str]:
        """Names of a regression's targets, their numbers where they have none."""
        return list(self.targets) or [str(number) for number in range(self.logits.shape[1])]

    @property
    def predictions(self) -> Tensor:
        """What is said: classes long [N], labels (0 or 1) long [N, T], or values float [N, T]."""
        return TASKS[self.task].decide(self.scores)

    def take(self: Outputs, rows: Sequence[int]) -> Outputs:
        """The same of some samples, in the order of ``rows``."""
        chosen = list(rows)
        return replace(
            self,
            logits=self.logits[chosen],
            target=self.target[chosen],
            sample_id=[self.sample_id[row] for row in chosen],
            of_samples={name: kept[chosen] for name, kept in self.of_samples.items()},
        )


def metric_value(name: str, outputs: EpochOutputs, rows: Tensor | None = None) -> float:
    """A metric's value, whatever it is computed from: scores and targets, or sample statistics.

    Args:
        name: As :class:`EpochMetrics` takes it, or of a metric in ``outputs.custom``.
        outputs: Of N samples.
        rows: Long [K], the samples that count, each as often as it stands there; None for all.

    Returns:
        The value; NaN where it is undefined.

    Raises:
        UsageError: It is a sample statistic that was not kept, or an error in the unit of one
            target, which ``name`` does not say, of several.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
        >>> outputs = EpochOutputs(logits, torch.tensor([0, 1, 1]), list("abc"), {})
        >>> metric_value("accuracy", outputs, rows=torch.tensor([0, 0, 1, 2]))
        0.75
    """
    if name in SAMPLE_STATISTICS:
        if name not in outputs.of_samples:
            raise UsageError(
                f"metric '{name}' was not kept with these outputs: EpochMetrics was not asked"
            )
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


class EpochMetrics:
    """Keeps each step's logits, targets and losses; computes the metrics at the epoch's end.

    Keeping a tensor costs well under a microsecond, where updating a metric object costs tens;
    and nothing is moved from the device, which would wait for it, before the epoch is over.

    Several processes tell each other then what they kept, and each computes the same metrics: those
    that one process with all their batches would have.

    Args:
        names: Keys of ``METRICS``, with ``@`` and a demand where they take one
            (``recall_at_fpr@0.05``), and of ``SAMPLE_STATISTICS``; functions ``f(scores, target)``
            and torchmetrics objects of the user's own
            (:func:`engine.metrics.custom_metric`). None takes the usual ones of the task.
        prefix: Put before each name (``train/``).
        task: A key of ``engine.metrics.TASKS``; None for a classification.
        restore: Brings what is learned, [N, T], back to the targets' units (a regression's
            :meth:`datasets.cohort.target_scaler.TargetScaler.restore`); metrics are in those
            units, the losses as the model was given them.
        targets: Names of a regression's targets. Of several, errors are measured for each, in its
            unit (``mae[age]``): :func:`engine.metrics.by_target`.

    Raises:
        UsageError: A name is none of a metric, or does not fit the task; an object is no metric.

    Attributes:
        metrics: As they were given, or the usual ones.
        names: Of the metrics.
        custom: Those of the user's own, by name.
        outputs: The last whole epoch's :class:`EpochOutputs`, None before the first.
    """

    phase = Phase.MEASURE
    of_each_process = True  # a checkpoint within an epoch holds what each has kept

    def __init__(
        self,
        names: Sequence[str | Callable[[Tensor, Tensor], Any]] | None = None,
        prefix: str = "",
        task: str | None = None,
        restore: Callable[[Tensor], Tensor] | None = None,
        targets: Sequence[str] = (),
    ) -> None:
        asked = TASKS[task or "multiclass"].metrics if names is None else names
        self.metrics = tuple(m if isinstance(m, str) else custom_metric(m) for m in asked)
        self.custom = custom_metrics(self.metrics)
        named = [m if isinstance(m, str) else m.name for m in self.metrics]
        self.names = tuple(by_target(named, targets))
        self.targets = tuple(targets)
        check_metrics(tuple(n for n in self.names if n not in self.custom), task, targets)
        if task is not None:
            for custom in self.custom.values():
                custom.check_task(task)
        self.prefix = prefix
        self.task = task
        self.restore = restore
        self.outputs: EpochOutputs | None = None
        self._device = torch.device("cpu")
        self._logits: list[Tensor] = []
        self._target: list[Tensor] = []
        self._sample_id: list[str] = []
        self._losses: list[Mapping[str, Tensor]] = []
        self._denominators: list[Mapping[str, Tensor]] = []
        self._loss: Any = None
        self._of_samples: dict[str, list[Tensor]] = {
            name: [] for name in self.names if name in SAMPLE_STATISTICS
        }

    def metric_names(self, loss_terms: Sequence[str] = ()) -> list[str]:
        """All names that will stand in ``state.metrics``, given the loss's named terms.

        Raises:
            UsageError: A metric of the user's own is called as a term of the loss.
        """
        losses = ["loss", *(term for term in loss_terms if term != "total_loss")]
        taken = self.custom.keys() & set(losses)
        if taken:
            raise UsageError(f"metric '{min(taken)}' is called as a term of the loss; rename it")
        return [self.prefix + name for name in (*losses, *self.names)]

    def attach(self, engine: OrderedEngine) -> None:
        """Listen to a trainer or an evaluator."""
        self._device = getattr(engine, "device", self._device)
        self._loss = getattr(engine, "loss", None)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        if self._of_samples:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep_statistics)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.compute)
        if hasattr(engine, "register_state"):
            engine.register_state("epoch_metrics", self)

    def __call__(self, engine: OrderedEngine) -> None:
        """Keep one step's tensors."""
        state = engine.state
        if not self._logits:
            self._check_targets(state.outputs["logits"].shape[1])
        self._logits.append(state.outputs["logits"].detach())
        self._target.append(state.batch.target)
        self._sample_id.extend(state.batch.sample_id)
        self._losses.append(state.losses)
        if getattr(self._loss, "weighted", False):
            aux = aux_of(state.batch)
            self._denominators.append(self._loss.denominators(state.batch.target, aux))

    def _check_targets(self, outputs: int) -> None:
        """Refuse a regression of several targets whose names are not known, on the first step."""
        if self.task == "regression" and outputs > 1 and not self.targets:
            names = tuple(name for name in self.names if name not in self.custom)
            check_metrics(names, self.task, [str(number) for number in range(outputs)])

    @torch.no_grad()
    def keep_statistics(self, engine: OrderedEngine) -> None:
        """Keep the sample statistics that were asked for, of one step, on its device."""
        outputs, batch = engine.state.outputs, engine.state.batch
        for name, kept in self._of_samples.items():
            found = SAMPLE_STATISTICS[name](outputs, batch)
            kept.append(_undefined_for(batch.target) if found is None else found)

    def compute(self, engine: OrderedEngine) -> None:
        """Turn what was kept into ``engine.state.metrics`` entries and start afresh."""
        steps = joined(gather(self._steps_so_far()))
        self.reset()
        if steps is None:  # of an epoch whose steps were taken by another number of processes
            return
        logits, target = steps.logits, steps.target
        # A handler may have given the trainer another total than the loss's.
        own = getattr(self._loss, "total", None)
        losses = steps.mean_losses(getattr(engine, "total", None) or own)
        if self.restore is not None:
            # In double precision: in units far from zero values differ in late digits.
            logits, target = self.restore(logits), self.restore(target)
        task = self.task or task_of(logits)
        self.outputs = EpochOutputs(
            logits,
            target,
            steps.sample_id,
            losses,
            task,
            steps.of_samples,
            custom=self.custom,
            targets=self.targets,
        )
        values = {"loss": losses["total_loss"]}
        values.update({name: value for name, value in losses.items() if name != "total_loss"})
        values.update({name: metric_value(name, self.outputs) for name in self.names})
        for name, value in values.items():
            engine.state.metrics[self.prefix + name] = value

    def _steps_so_far(self) -> StepOutputs | None:
        """What this process kept, moved to the CPU all at once."""
        if not self._target:
            return None
        return StepOutputs(
            sizes=[len(target) for target in self._target],
            logits=torch.cat(self._logits).float().cpu(),
            target=torch.cat(self._target).cpu(),
            sample_id=self._sample_id,
            losses=_stacked(self._losses),
            of_samples={n: torch.cat(kept).double().cpu() for n, kept in self._of_samples.items()},
            denominators=_stacked(self._denominators),
        )

    def reset(self) -> None:
        """Forget the steps kept so far."""
        self._logits, self._target, self._sample_id = [], [], []
        self._losses, self._denominators = [], []
        self._of_samples = {name: [] for name in self._of_samples}

    def state_dict(self) -> dict[str, Any]:
        """The steps kept so far in an unfinished epoch."""
        return {
            "logits": list(self._logits),
            "target": list(self._target),
            "sample_id": list(self._sample_id),
            "losses": [dict(step) for step in self._losses],
            "denominators": [dict(step) for step in self._denominators],
            "of_samples": {name: list(kept) for name, kept in self._of_samples.items()},
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue an unfinished epoch, on the device that the next steps' tensors are on."""
        self._logits = [logits.to(self._device) for logits in state_dict["logits"]]
        self._target = [target.to(self._device) for target in state_dict["target"]]
        self._sample_id = list(state_dict["sample_id"])
        for steps, saved in (
            (self._losses, state_dict["losses"]),
            (self._denominators, state_dict["denominators"]),
        ):
            steps[:] = [{n: kept.to(self._device) for n, kept in step.items()} for step in saved]
        saved = state_dict.get("of_samples", {})
        for name in self._of_samples:
            # What was not asked for then is unknown of the steps that are done.
            steps = saved.get(name, [_undefined_for(target) for target in self._target])
            self._of_samples[name] = [step.to(self._device) for step in steps]


def _stacked(steps: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Name -> each step's scalar, [n], double, on the CPU."""
    names = steps[0] if steps else {}
    return {name: torch.stack([step[name] for step in steps]).double().cpu() for name in names}


def _undefined_for(target: Tensor) -> Tensor:
    """NaN for each sample, [B], where the targets are."""
    return torch.full((len(target),), UNDEFINED, device=target.device)

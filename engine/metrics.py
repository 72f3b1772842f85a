"""Metrics, computed once an epoch from the tensors that the steps left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from engine.custom_metrics import CustomMetric, custom_metric, custom_metrics
from engine.errors import UsageError
from engine.events import OrderedEngine, Phase
from engine.kept_steps import KeptSteps, joined
from engine.metric_functions import METRICS, UNDEFINED, find_metric
from engine.processes import gather
from engine.sample_statistics import SAMPLE_STATISTICS
from engine.tasks import TASKS, check_metrics, task_of

__all__ = ["METRICS", "EpochMetrics", "EpochOutputs", "metric_value"]


@dataclass(frozen=True)
class EpochOutputs:
    """What the steps of one epoch left behind, on the CPU.

    Attributes:
        logits: [N, C], in the loader's order; of a regression the predicted values [N, T], in the
            targets' units.
        target: Class numbers long [N], labels (0 or 1) float [N, T], or values float [N, T].
        sample_id: The N samples' names.
        losses: Loss name -> mean over the samples.
        task: A key of ``engine.tasks.TASKS``; where it is not given, a classification.
        of_samples: Name of a sample statistic (``engine.sample_statistics.SAMPLE_STATISTICS``)
            that was asked for -> one number a sample [N]; NaN where the model does not return
            what it is of.
        custom: Name of a metric of the user's own -> the metric.
    """

    logits: Tensor
    target: Tensor
    sample_id: list[str]
    losses: Mapping[str, float]
    task: str = ""
    of_samples: Mapping[str, Tensor] = field(default_factory=dict)
    custom: Mapping[str, CustomMetric] = field(default_factory=dict)

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
    def predictions(self) -> Tensor:
        """What is said: classes long [N], labels (0 or 1) long [N, T], or values float [N, T]."""
        return TASKS[self.task].decide(self.scores)


def metric_value(name: str, outputs: EpochOutputs, rows: Tensor | None = None) -> float:
    """A metric's value, whatever it is computed from: scores and targets, or sample statistics.

    Args:
        name: As :class:`EpochMetrics` takes it, or of a metric in ``outputs.custom``.
        outputs: Of N samples.
        rows: Long [K], the samples that count, each as often as it stands there; None for all.

    Returns:
        The value; NaN where it is undefined.

    Raises:
        UsageError: It is a sample statistic that was not kept.

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
    metric = outputs.custom[name] if name in outputs.custom else find_metric(name)
    return metric(scores, target)


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
            (:func:`engine.custom_metrics.custom_metric`). None takes the usual ones of the task.
        prefix: Put before each name (``train/``).
        task: A key of ``engine.tasks.TASKS``; None for a classification.
        restore: Brings what is learned, [N, T], back to the targets' units (a regression's
            :meth:`datasets.target_scaler.TargetScaler.restore`); metrics are in those units, the
            losses as the model was given them.

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
    ) -> None:
        asked = TASKS[task or "multiclass"].metrics if names is None else names
        self.metrics = tuple(m if isinstance(m, str) else custom_metric(m) for m in asked)
        self.custom = custom_metrics(self.metrics)
        self.names = tuple(m if isinstance(m, str) else m.name for m in self.metrics)
        check_metrics(tuple(m for m in self.metrics if isinstance(m, str)), task)
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
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        if self._of_samples:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep_statistics)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.compute)
        if hasattr(engine, "keep"):
            engine.keep("epoch_metrics", self)

    def __call__(self, engine: OrderedEngine) -> None:
        """Keep one step's tensors."""
        state = engine.state
        self._logits.append(state.outputs["logits"].detach())
        self._target.append(state.batch.target)
        self._sample_id.extend(state.batch.sample_id)
        self._losses.append(state.losses)

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
        logits, target, losses = steps.logits, steps.target, steps.mean_losses()
        if self.restore is not None:
            logits, target = self.restore(logits).float(), self.restore(target).float()
        task = self.task or task_of(logits)
        self.outputs = EpochOutputs(
            logits, target, steps.sample_id, losses, task, steps.of_samples, self.custom
        )
        values = {"loss": losses["total_loss"]}
        values.update({name: value for name, value in losses.items() if name != "total_loss"})
        values.update({name: metric_value(name, self.outputs) for name in self.names})
        for name, value in values.items():
            engine.state.metrics[self.prefix + name] = value

    def _steps_so_far(self) -> KeptSteps | None:
        """What this process kept, moved to the CPU all at once."""
        if not self._target:
            return None
        return KeptSteps(
            sizes=[len(target) for target in self._target],
            logits=torch.cat(self._logits).float().cpu(),
            target=torch.cat(self._target).cpu(),
            sample_id=self._sample_id,
            losses={
                name: torch.stack([step[name] for step in self._losses]).double().cpu()
                for name in self._losses[0]
            },
            of_samples={n: torch.cat(kept).double().cpu() for n, kept in self._of_samples.items()},
        )

    def reset(self) -> None:
        """Forget the steps kept so far."""
        self._logits, self._target, self._sample_id, self._losses = [], [], [], []
        self._of_samples = {name: [] for name in self._of_samples}

    def state_dict(self) -> dict[str, Any]:
        """The steps kept so far in an unfinished epoch."""
        return {
            "logits": list(self._logits),
            "target": list(self._target),
            "sample_id": list(self._sample_id),
            "losses": [dict(step) for step in self._losses],
            "of_samples": {name: list(kept) for name, kept in self._of_samples.items()},
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue an unfinished epoch, on the device that the next steps' tensors are on."""
        self._logits = [logits.to(self._device) for logits in state_dict["logits"]]
        self._target = [target.to(self._device) for target in state_dict["target"]]
        self._sample_id = list(state_dict["sample_id"])
        self._losses = [
            {name: loss.to(self._device) for name, loss in step.items()}
            for step in state_dict["losses"]
        ]
        saved = state_dict.get("of_samples", {})
        for name in self._of_samples:
            # What was not asked for then is unknown of the steps that are done.
            steps = saved.get(name, [_undefined_for(target) for target in self._target])
            self._of_samples[name] = [step.to(self._device) for step in steps]


def _undefined_for(target: Tensor) -> Tensor:
    """NaN for each sample, [B], where the targets are."""
    return torch.full((len(target),), UNDEFINED, device=target.device)

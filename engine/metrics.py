"""Metrics, computed once an epoch from the tensors that the steps left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from engine.events import OrderedEngine, Phase
from engine.metric_functions import METRICS, UNDEFINED, find_metric
from engine.tasks import TASKS, check_metrics, task_of

__all__ = ["METRICS", "EpochMetrics", "EpochOutputs"]


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
    """

    logits: Tensor
    target: Tensor
    sample_id: list[str]
    losses: Mapping[str, float]
    task: str = ""

    def __post_init__(self) -> None:
        """Find the task."""
        if not self.task:
            object.__setattr__(self, "task", task_of(self.logits))

    @property
    def scores(self) -> Tensor:
        """What metrics are computed from: probabilities, or a regression's predictions."""
        return TASKS[self.task].scores(self.logits)

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


class EpochMetrics:
    """Keeps each step's logits, targets and losses; computes the metrics at the epoch's end.

    Keeping a tensor costs well under a microsecond, where updating a metric object costs tens;
    and nothing is moved from the device, which would wait for it, before the epoch is over.

    Args:
        names: Keys of ``METRICS``, with ``@`` and a demand where they take one
            (``recall_at_fpr@0.05``); None takes the usual ones of the task.
        prefix: Put before each name (``train/``).
        task: A key of ``engine.tasks.TASKS``; None for a classification.
        restore: Brings what is learned, [N, T], back to the targets' units (a regression's
            :meth:`datasets.target_scaler.TargetScaler.restore`); metrics are in those units, the
            losses as the model was given them.

    Raises:
        UsageError: A name is not in ``METRICS`` or does not fit the task.

    Attributes:
        outputs: The last whole epoch's :class:`EpochOutputs`, None before the first.
    """

    phase = Phase.MEASURE

    def __init__(
        self,
        names: Sequence[str] | None = None,
        prefix: str = "",
        task: str | None = None,
        restore: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        check_metrics(tuple(names or ()), task)
        self.names = TASKS[task or "multiclass"].metrics if names is None else tuple(names)
        self.prefix = prefix
        self.task = task
        self.restore = restore
        self.outputs: EpochOutputs | None = None
        self._device = torch.device("cpu")
        self._logits: list[Tensor] = []
        self._target: list[Tensor] = []
        self._sample_id: list[str] = []
        self._losses: list[Mapping[str, Tensor]] = []

    def metric_names(self, loss_terms: Sequence[str] = ()) -> list[str]:
        """All names that will stand in ``state.metrics``, given the loss's named terms."""
        losses = ["loss", *(term for term in loss_terms if term != "total_loss")]
        return [self.prefix + name for name in (*losses, *self.names)]

    def attach(self, engine: OrderedEngine) -> None:
        """Listen to a trainer or an evaluator."""
        self._device = getattr(engine, "device", self._device)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
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

    def compute(self, engine: OrderedEngine) -> None:
        """Turn what was kept into ``engine.state.metrics`` entries and start afresh."""
        sizes = torch.tensor([len(target) for target in self._target], dtype=torch.float64)
        losses = {
            name: float(torch.stack([step[name] for step in self._losses]).double().cpu() @ sizes)
            / float(sizes.sum())
            for name in self._losses[0]
        }
        logits, target = torch.cat(self._logits).float().cpu(), torch.cat(self._target).cpu()
        if self.restore is not None:
            logits, target = self.restore(logits).float(), self.restore(target).float()
        task = self.task or task_of(logits)
        self.outputs = EpochOutputs(logits, target, list(self._sample_id), losses, task)
        self.reset()
        scores = self.outputs.scores
        values = {"loss": losses["total_loss"]}
        values.update({name: value for name, value in losses.items() if name != "total_loss"})
        # Diverged weights give NaN scores, of which no ranking or decision can be made.
        whole = bool(torch.isfinite(scores).all())
        for name in self.names:
            values[name] = find_metric(name)(scores, target) if whole else UNDEFINED
        for name, value in values.items():
            engine.state.metrics[self.prefix + name] = value

    def reset(self) -> None:
        """Forget the steps kept so far."""
        self._logits, self._target, self._sample_id, self._losses = [], [], [], []

    def state_dict(self) -> dict[str, Any]:
        """The steps kept so far in an unfinished epoch."""
        return {
            "logits": list(self._logits),
            "target": list(self._target),
            "sample_id": list(self._sample_id),
            "losses": [dict(step) for step in self._losses],
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

"""Metrics, computed once per epoch from the outputs of its steps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from datasets.errors import UsageError
from engine.events import OrderedEngine
from engine.metrics.custom import custom_metric, custom_metrics
from engine.metrics.outputs import EpochOutputs, metric_value
from engine.metrics.sample_statistics import SAMPLE_STATISTICS
from engine.metrics.step_outputs import TOTAL, OutputCollector, in_order, mean_losses, terms_of
from engine.metrics.tasks import TASKS, UNDEFINED, by_target, check_metrics, task_of
from engine.protocols import SavedAttributes

NOTHING: Mapping[str, Tensor] = {}


class EpochMetrics(OutputCollector, SavedAttributes):
    """Keeps the logits, targets and losses of each step; computes metrics at the epoch's end.

    Of several ranks each computes the same metrics: those of one process with all batches.
    ``outputs`` are the :class:`EpochOutputs` of the last complete epoch, None before the first.

    Args:
        names: Keys of ``METRICS``, with ``@`` and a demand where they take one
            (``recall_at_fpr@0.05``), and of ``SAMPLE_STATISTICS``; functions ``f(scores, target)``
            and torchmetrics objects (:func:`engine.metrics.custom_metric`). None for the task's.
        task: A key of ``engine.metrics.TASKS``; None for a classification.
        restore: From scaled values [N, T] to the targets' units; losses stay scaled.
        targets: Names of a regression's targets, for :func:`engine.metrics.by_target`.
    """

    saved = ("_kept",)
    of_each_process = True  # a checkpoint within an epoch holds what each rank has kept

    def __init__(
        self,
        names: Sequence[str | Callable[[Tensor, Tensor], Any]] | None = None,
        prefix: str = "",
        task: str | None = None,
        restore: Callable[[Tensor], Tensor] | None = None,
        targets: Sequence[str] = (),
    ) -> None:
        super().__init__()
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
        self._loss: Any = None
        self._weighted = False
        self._statistics = [name for name in self.names if name in SAMPLE_STATISTICS]

    def metric_names(self, loss_terms: Sequence[str] = ()) -> list[str]:
        """All names that ``state.metrics`` will hold, given the names of the loss's terms."""
        losses = ["loss", *(term for term in loss_terms if term != "total_loss")]
        taken = self.custom.keys() & set(losses)
        if taken:
            raise UsageError(f"metric '{min(taken)}' is called as a term of the loss; rename it")
        return [self.prefix + name for name in (*losses, *self.names)]

    def attach(self, engine: OrderedEngine) -> None:
        """Listen to a trainer or an evaluator."""
        self._device = getattr(engine, "device", self._device)
        self._loss = getattr(engine, "loss", None)
        self._weighted = getattr(self._loss, "weighted", False)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        if self._statistics:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep_statistics)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.compute)
        if hasattr(engine, "register_state"):
            engine.register_state("epoch_metrics", self)

    def take(self, engine: OrderedEngine) -> dict[str, Any]:
        """One step's tensors."""
        state = engine.state
        if not self._kept and self.task == "regression" and not self.targets:
            # Several targets of unknown names are refused where a metric would need one's unit.
            numbers = [str(number) for number in range(state.outputs["logits"].shape[1])]
            names = tuple(name for name in self.names if name not in self.custom)
            check_metrics(names, self.task, numbers if len(numbers) > 1 else ())
        step: dict[str, Any] = {
            "logits": state.outputs["logits"].detach(),
            "target": state.batch.target,
            "sample_id": state.batch.sample_id,
            "losses": state.losses,
            "denominators": NOTHING,
            "of_samples": NOTHING,
        }
        if self._weighted:
            aux = getattr(state.batch, "aux", None)
            step["denominators"] = self._loss.denominators(state.batch.target, aux)
        return step

    @torch.no_grad()
    def keep_statistics(self, engine: OrderedEngine) -> None:
        """Keep the requested sample statistics of one step, on its device."""
        outputs, batch = engine.state.outputs, engine.state.batch
        found = {name: SAMPLE_STATISTICS[name](outputs, batch) for name in self._statistics}
        self._kept[-1]["of_samples"] = {
            name: _undefined_for(batch.target) if of_step is None else of_step
            for name, of_step in found.items()
        }

    def compute(self, engine: OrderedEngine) -> None:
        """Write the epoch's metrics to ``engine.state.metrics``. Collective."""
        steps = in_order(self._kept)
        self.reset()
        if not steps:  # an epoch whose steps were taken by another number of processes
            return
        logits = torch.cat([step["logits"] for step in steps]).float().cpu()
        target = torch.cat([step["target"] for step in steps]).cpu()
        # A handler may have given the trainer another total than the loss's.
        own = getattr(self._loss, "total", None)
        losses = mean_losses(
            _stacked([step["losses"] for step in steps]),
            [len(step["target"]) for step in steps],
            _stacked([step["denominators"] for step in steps]),
            getattr(engine, "total", None) or own,
        )
        if self.restore is not None:
            # In double precision: in units far from zero values differ in late digits.
            logits, target = self.restore(logits), self.restore(target)
        self.outputs = EpochOutputs(
            logits,
            target,
            [name for step in steps for name in step["sample_id"]],
            losses,
            self.task or task_of(logits),
            {
                name: torch.cat([step["of_samples"][name] for step in steps]).double().cpu()
                for name in self._statistics
            },
            custom=self.custom,
            targets=self.targets,
        )
        values = {"loss": losses[TOTAL], **terms_of(losses)}
        values |= {name: metric_value(name, self.outputs) for name in self.names}
        engine.state.metrics.update({self.prefix + name: value for name, value in values.items()})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue an unfinished epoch, on the device of the next steps' tensors."""
        super().load_state_dict(state_dict)
        for step in self._kept:
            # A statistic that was not requested then is undefined for the steps so far.
            saved, undefined = step["of_samples"], _undefined_for(step["target"])
            step["of_samples"] = {name: saved.get(name, undefined) for name in self._statistics}


def _stacked(steps: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Name -> each step's scalar, [n], double, on the CPU."""
    return {name: torch.stack([step[name] for step in steps]).double().cpu() for name in steps[0]}


def _undefined_for(target: Tensor) -> Tensor:
    return torch.full((len(target),), UNDEFINED, device=target.device)

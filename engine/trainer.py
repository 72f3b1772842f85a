"""The trainer: an engine that owns what a step needs and knows no handler."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events, State
from torch import Tensor, nn
from torch.optim import Optimizer

from datasets.errors import UsageError, nearest
from datasets.summaries import WithSummary
from engine.checkpointing import capture_all, capture_rng, restore_all, restore_rng
from engine.distributed import is_main_process, world_size
from engine.events import Phase, ResumableEngine, TrainEvents
from engine.optim import LeftOutSteps, StepShares, learning_rate
from engine.precision import Precision
from engine.prefetch import prefetched
from engine.protocols import Handler, Loss, Stateful
from engine.steps import train_step


class Trainer(WithSummary, ResumableEngine):
    """Trains a model; everything beyond the loop is a handler of its events.

    Args:
        model: ``model(spectra [B, S, L], mask [B, S], tabular [B, D])`` returns a dict with
            ``logits`` [B, C]; moved to ``device``.
        loss: ``loss(outputs, target)`` returns a dict of named losses with ``total_loss``.

    Attributes:
        network: What a step calls: the model, or a wrapper around it (training by several
            processes); everything else uses ``model``.
        data_sampler: Set by :meth:`fit`; follows the epoch, and resumes within one.
        monitors: Who reads a metric at the end of an epoch, and which.
        total: From a step's terms to its ``total_loss``, if the loss or a handler provides it.
        history: One row per epoch of the run: ``epoch`` and ``metrics`` (name -> float, ``lr``
            among them); saved with every checkpoint.

    Example:
        >>> from engine.losses import CrossEntropy
        >>> model = nn.Linear(1, 2)
        >>> trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.1), CrossEntropy())
        >>> @trainer.on(TrainEvents.OPTIMIZER_STEPPED(every=100))
        ... def say(trainer): print(trainer.state.optimizer_step)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss: Loss,
        device: torch.device | str = "cpu",
        run_dir: Path | None = None,
    ) -> None:
        super().__init__(train_step)  # type: ignore[arg-type]
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.network: nn.Module = self.model
        self.optimizer = optimizer
        self.loss = loss
        self.run_dir = run_dir
        self.precision = Precision()
        self.stateful: dict[str, Stateful] = {}
        self.data_sampler: Any = None
        self.step_shares = StepShares()
        self.total: Callable[[Mapping[str, Any]], Any] | None = getattr(loss, "total", None)
        self.left_out_steps = LeftOutSteps()
        self.history: list[dict[str, Any]] = []
        self.provided_metrics: set[str] = set()
        self._optimized: list[nn.Parameter] = []
        self.monitors: list[tuple[str, str]] = []
        self._rng_to_restore: Mapping[str, Any] | None = None
        self._saved_by = world_size()
        self._saved_accumulation: int | None = None  # batches per step of a restored run

        by_iteration = dict.fromkeys(TrainEvents, "iteration")
        by_iteration[TrainEvents.OPTIMIZER_STEPPED] = "optimizer_step"
        self.register_events(*TrainEvents, event_to_attr=by_iteration)
        self.state.metrics = {}
        self.state.optimizer_step = 0
        self.state.accumulate_steps = self.state.accumulation_size = 1
        self.state.sync_gradients = True
        self.state.batch_weight = None
        self.state.skip_step = False

        self.register_state("trainer", self)
        self.register_state("model", self.model)
        self.register_state("optimizer", self.optimizer)
        self.add_event_handler(Events.STARTED, self.check_monitors, phase=Phase.PREPARE)
        self.add_event_handler(Events.STARTED, self._restore_rng, phase=Phase.REPORT)
        self.add_event_handler(Events.EPOCH_STARTED, self._start_epoch, phase=Phase.PREPARE)
        self.add_event_handler(Events.EPOCH_STARTED, self._list_parameters, phase=Phase.REPORT)
        self.add_event_handler(Events.EPOCH_COMPLETED, self._record_epoch, phase=Phase.RECORD)

    def summary(self) -> dict[str, object]:
        """Model, optimizer and place."""
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        return {
            "model": type(self.model).__name__,
            "parameters": f"{trained:,}",
            "optimizer": type(self.optimizer).__name__,
            "device": self.device,
            "epoch": self.state.epoch,
            "optimizer_step": self.state.optimizer_step,
        }

    def details(self) -> dict[str, object]:
        """The last epoch's metrics."""
        return {name: f"{float(value):.4g}" for name, value in self.state.metrics.items()}

    # -- handlers ---------------------------------------------------------------------------

    def attach(self, *handlers: Handler) -> None:
        """Attach handlers, those with ``first_process_only`` in the main process only."""
        for handler in handlers:
            if is_main_process() or not getattr(handler, "first_process_only", False):
                handler.attach(self)

    def register_state(self, name: str, thing: Stateful) -> str:
        """Save ``thing`` with every checkpoint, as ``name``, or ``<name>-2`` for a second one."""
        free, number = name, 1
        while free in self.stateful:
            number += 1
            free = f"{name}-{number}"
        self.stateful[free] = thing
        return free

    def in_run_dir(self, setting: str, given: str | Path | None, *parts: str) -> Path:
        """The path of a handler's setting, by default one in ``run_dir``."""
        if given is not None:
            return Path(given)
        if self.run_dir is None:
            raise UsageError(f"{setting}: name one, the trainer has no run_dir")
        return Path(self.run_dir, *parts)

    def log_event(self, event: str, **fields: Any) -> None:
        """Fire ``LOG_EVENT``: one word and plain fields, of which the console shows ``message``."""
        self.state.notice = {"event": event, **fields}
        fired_within = self.last_event_name
        self.fire_event(TrainEvents.LOG_EVENT)
        self.last_event_name = fired_within

    # -- names of metrics -------------------------------------------------------------------

    def provide_metrics(self, *names: str) -> None:
        """Declare metrics that ``state.metrics`` will hold at the end of an epoch."""
        self.provided_metrics.update(names)

    def monitor_metric(self, name: str, user: str) -> None:
        """Declare that ``user`` (a handler's name) reads a metric at the end of an epoch."""
        self.monitors.append((user, name))

    def check_monitors(self) -> None:
        """Raise UsageError for a monitored metric that nothing provides."""
        for user, name in self.monitors:
            if name not in self.provided_metrics:
                subset = name.partition("/")[0]  # names of the same subset first
                known = sorted(self.provided_metrics)
                known.sort(key=lambda n: n.partition("/")[0] != subset)
                choices = nearest(name, known)
                raise UsageError(f"{user}.monitor: no metric is called '{name}'{choices}")

    # -- running ----------------------------------------------------------------------------

    def fit(self, loader: Any, max_epochs: int) -> State:
        """Train until ``max_epochs`` epochs are done, counting those of a restored checkpoint.

        A run that was saved by another number of processes, or with another accumulation, resumes
        at the beginning of an epoch, with its optimizer steps rescaled. Where the loader's
        ``batch_sampler`` has ``set_epoch`` and ``resume_at``, a cut run resumes at the very next
        batch.
        """
        if len(loader) == 0:
            raise UsageError("the training loader is empty: no batch to train on")
        self.data_sampler = getattr(loader, "batch_sampler", None)
        same_length = self.state.epoch_length == len(loader)
        accumulated = self._saved_accumulation not in (None, self.state.accumulate_steps)
        if self._saved_by != world_size() or (accumulated and same_length):
            self._rescale_progress(len(loader))
        if self.state.epoch_length not in (None, len(loader)):
            raise UsageError(
                f"the restored run had {self.state.epoch_length} batches an epoch, this loader "
                f"has {len(loader)}; use the same data and batch size"
            )
        self.state.epoch_length = len(loader)
        # Without max_epochs in its state Ignite starts from zero.
        self.state.max_epochs = max_epochs
        epochs_done = self.epochs_done()
        if epochs_done >= max_epochs:
            return self._end_again()
        # An interrupted epoch is counted already and is entered again; to Ignite a stopped run is
        # one whose next epoch begins at its first batch.
        self.state.epoch = epochs_done
        self.should_terminate = False
        batches = prefetched(self.step_shares.prepare(self, loader), self.device)
        return self.run(batches, max_epochs=max_epochs)

    def _rescale_progress(self, length: int) -> None:
        """Rescale progress to the batches (``length`` per epoch) and steps of this set-up."""
        state, saved_by = self.state, self._saved_by
        accumulated = self._saved_accumulation or state.accumulate_steps
        self._saved_by, self._saved_accumulation = world_size(), state.accumulate_steps
        steps_per_epoch = math.ceil(length / state.accumulate_steps)
        saved_per_epoch = math.ceil(state.epoch_length / accumulated)
        epochs, within = divmod(state.iteration, state.epoch_length)
        steps = state.optimizer_step - math.ceil(within / accumulated)
        # A schedule reads its progress from the steps.
        state.optimizer_step = round(steps * steps_per_epoch / saved_per_epoch)
        state.iteration, state.epoch_length = epochs * length, length
        message = (
            f"saved by {saved_by} processes, continued by {world_size()}"
            if saved_by != world_size()
            else f"{state.accumulate_steps} batches a step, before {accumulated}: "
            "optimizer steps are counted anew"
        )
        if within:
            message += f": epoch {epochs + 1} begins again, with the weights as they are"
        self.log_event("shared_anew", saved_by=saved_by, processes=world_size(), message=message)

    def _end_again(self) -> State:
        """End a run with nothing left to train: it may have been cut before its handlers ended."""
        state = self.state
        self.log_event("nothing_to_train", epochs=state.epoch, max_epochs=state.max_epochs)
        self.terminate()
        self.fire_event(Events.STARTED)
        self.fire_event(Events.COMPLETED)
        return state

    def _may_stop_here(self) -> bool:
        """Only where a checkpoint can resume: at an epoch's ends, or after an optimizer step."""
        state, event = self.state, self.last_event_name
        if event == Events.ITERATION_COMPLETED:
            return bool(state.sync_gradients and state.iteration % state.epoch_length)
        return event in (Events.STARTED, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED)

    def _start_epoch(self) -> None:
        self.model.train()
        epoch, position = self.state.epoch, self.state.iteration % self.state.epoch_length
        if position and hasattr(self.data_sampler, "resume_at"):
            self.data_sampler.resume_at(epoch, position)
        elif hasattr(self.data_sampler, "set_epoch"):
            self.data_sampler.set_epoch(epoch)
        if position and self._rng_to_restore is not None:
            # The handlers of EPOCH_STARTED ran a second time for this epoch: their random draws
            # are undone before the next batch is fetched.
            self.add_event_handler(Events.GET_BATCH_STARTED, self._restore_rng_once)

    def _list_parameters(self) -> None:
        # Once an epoch, in which unfreezing may have added some.
        self._optimized = [p for group in self.optimizer.param_groups for p in group["params"]]

    def gradients(self) -> list[Tensor]:
        """The gradients of the optimizer's parameters that have one."""
        return [p.grad for p in self._optimized if p.grad is not None]

    def _record_epoch(self) -> None:
        metrics = {"lr": learning_rate(self.optimizer), **self.state.metrics}
        values = {name: float(value) for name, value in metrics.items()}
        self.history.append({"epoch": self.state.epoch, "metrics": values})

    def _restore_rng_once(self) -> None:
        self._restore_rng()
        self._rng_to_restore = None
        self.remove_event_handler(self._restore_rng_once, Events.GET_BATCH_STARTED)

    def _before_open_epoch(self) -> None:
        # The random draws of the handlers of EPOCH_STARTED are undone.
        self._restore_rng()
        self._rng_to_restore = None

    def _restore_rng(self) -> None:
        if self._rng_to_restore is not None:
            restore_rng(self._rng_to_restore)
            within_epoch = self.state.iteration % (self.state.epoch_length or 1)
            if not within_epoch and self.state.open_epoch is None:
                self._rng_to_restore = None

    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]
        """Progress, the history, and every random number stream of this process."""
        return {
            "iteration": self.state.iteration,
            "epoch_length": self.state.epoch_length,
            "optimizer_step": self.state.optimizer_step,
            "left_out_steps": self.left_out_steps.state_dict(),
            "accumulate_steps": self.state.accumulate_steps,
            "open_epoch": self.state.open_epoch,
            "metrics": {name: float(value) for name, value in self.state.metrics.items()},
            "history": list(self.history),
            "rng": capture_rng(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore progress and history; the random streams follow when training starts."""
        self.state.iteration = state_dict["iteration"]
        self.state.epoch_length = state_dict["epoch_length"]
        self.state.open_epoch = state_dict["open_epoch"]
        self.state.epoch = self.epochs_done()
        self.state.optimizer_step = state_dict["optimizer_step"]
        self.left_out_steps.load_state_dict(state_dict["left_out_steps"])
        self._saved_accumulation = state_dict["accumulate_steps"]
        self.state.metrics = dict(state_dict["metrics"])
        self.history = list(state_dict["history"])
        self._rng_to_restore = state_dict["rng"]

    def capture(self) -> dict[str, Any]:
        """The state of everything registered, by name; that of rank 0 is to save. Collective."""
        return capture_all(self.stateful, self.model)

    def restore(
        self, states: Mapping[str, Any], things: Mapping[str, Stateful] | None = None
    ) -> None:
        """Restore rank 0's captured states; UsageError if they are another set-up's. Collective."""
        things = self.stateful if things is None else things
        self._saved_by = restore_all(things, self.model, states)

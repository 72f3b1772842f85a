"""The learning rate over the steps: warm-up, then cosine, steps, one cycle, plateau or constant."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from datasets.errors import UsageError
from datasets.specs import (
    optional_whole,
    require_choice,
    require_number,
    require_range,
    require_whole,
)
from engine.events import Phase, TrainEvents, in_phase
from engine.metrics import Monitor
from engine.optim import SCHEDULES, learning_rate
from engine.trainer import Trainer

THRESHOLD_MODES = ("rel", "abs")
PLATEAU_MEMORY = ("best", "num_bad_epochs", "cooldown_counter")


class LRSchedule:
    """Sets each group's learning rate after every optimizer step.

    Each group keeps its own full rate: its ``initial_lr``, which is ``lr`` when the handler is
    attached. With s the optimizer steps done, T all steps of the run (``total_steps``), W those of
    the warm-up, the rate of the next step is

    - warm-up, s < W: full rate x (start + (1 - start) (s + 1) / (W + 1)), linear, not zero in the
      first step and full at s = W; ``warmup_start`` is the share to rise from;
    - ``cosine``: ``min_lr`` + (full - ``min_lr``) (1 + cos(pi (s - W) / (T - W))) / 2
      (Loshchilov and Hutter 2017, "SGDR", without restarts);
    - ``step``: full rate x ``gamma`` each ``step_epochs`` epochs (or ``step_size`` steps),
      counted from the start of training;
    - ``one_cycle``: up from full / ``div_factor`` and down to that / ``final_div_factor``, both
      along a cosine (Smith and Topin 2018); the rise takes W steps, or ``pct_start`` of T without
      a warm-up;
    - ``plateau``: full rate x ``factor`` whenever the ``monitor`` has not improved by ``threshold``
      (``threshold_mode`` ``rel``: a share of the best, or ``abs``) for more than ``patience``
      epochs, not counting ``cooldown`` epochs after a reduction (torch's ``ReduceLROnPlateau``). An
      epoch without the monitor does not count; NaN is no improvement;
    - ``constant``: the full rate.

    ``min_lr`` is the lower bound of every schedule, but not of the warm-up. The values are those of
    torch's schedulers, but as a function of s alone: the device may take a step back
    (:class:`engine.optim.LeftOutSteps`), and a resumed run may have another T.

    At an epoch's end ``state.metrics["lr"]`` is the highest rate, and ``lr/<group>`` each group's
    where they differ. Announces ``lr_reduced`` (plateau) and, where the warm-up is longer than the
    run, a ``notice``.
    """

    phase = Phase.UPDATE

    def __init__(
        self,
        name: str = "cosine",
        warmup_steps: int = 0,
        warmup_start: float = 0.0,
        total_steps: int | None = None,
        min_lr: float = 0.0,
        step_epochs: int = 10,
        step_size: int | None = None,
        gamma: float = 0.1,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        monitor: str = "val/loss",
        mode: str | None = None,
        factor: float = 0.1,
        patience: int = 10,
        cooldown: int = 0,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
    ) -> None:
        self.name = require_choice("lr_schedule.name", name, SCHEDULES)
        what = "lr_schedule.threshold_mode"
        self.threshold_mode = require_choice(what, threshold_mode, THRESHOLD_MODES)
        self.total_steps = optional_whole("lr_schedule.total_steps", total_steps, 1)
        self.step_size = optional_whole("lr_schedule.step_size", step_size, 1)
        self.warmup_steps = require_whole("lr_schedule.warmup_steps", warmup_steps)
        self.step_epochs = require_whole("lr_schedule.step_epochs", step_epochs, 1)
        self.patience = require_whole("lr_schedule.patience", patience)
        self.cooldown = require_whole("lr_schedule.cooldown", cooldown)
        self.warmup_start = require_number("lr_schedule.warmup_start", warmup_start, high=1)
        self.min_lr = require_number("lr_schedule.min_lr", min_lr)
        self.gamma = require_number("lr_schedule.gamma", gamma, high=1)
        self.threshold = require_number("lr_schedule.threshold", threshold)
        self.div_factor = require_number("lr_schedule.div_factor", div_factor, 1)
        self.final_div_factor = require_number("lr_schedule.final_div_factor", final_div_factor, 1)
        self.pct_start = require_range("lr_schedule.pct_start", pct_start, 0, 1, open_low=True)
        self.factor = require_range("lr_schedule.factor", factor, 0, 1, open_low=True)
        if name != "plateau":
            mode = mode or "min"  # the other schedules do not look at the monitor
        self.monitor = Monitor(monitor, mode, "lr_schedule")
        self._total = total_steps or 1
        self._drop_every = step_size or 1
        self._plateau: ReduceLROnPlateau | None = None
        if name == "plateau":
            # Its optimizer stands in for ours: the rate is the share of each group's full rate.
            self._plateau = ReduceLROnPlateau(
                torch.optim.SGD([torch.zeros(1)], lr=1.0),
                mode=self.monitor.mode,  # type: ignore[arg-type]
                factor=self.factor,
                patience=self.patience,
                cooldown=self.cooldown,
                threshold=self.threshold,
                threshold_mode=self.threshold_mode,  # type: ignore[arg-type]
                eps=0.0,
            )

    def attach(self, trainer: Trainer) -> None:
        """Listen to optimizer steps and to the ends of epochs; note each group's full rate."""
        highest = self._note_full_rates(trainer)
        if self.min_lr > highest:
            least = f"lr_schedule.min_lr {self.min_lr:g}"
            raise UsageError(f"{least} is above the learning rate {highest:g}")
        if self.name == "plateau":
            self.monitor.attach(trainer)
        trainer.register_state("lr_schedule", self)
        trainer.provide_metrics("lr", *(f"lr/{name}" for name in self._named_groups(trainer)))
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(TrainEvents.OPTIMIZER_STEPPED, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)

    def start(self, trainer: Trainer) -> None:
        """Find the number of steps of the run, and set the rate of its next step."""
        state = trainer.state
        self._note_full_rates(trainer)
        # Set by the handler that accumulates gradients.
        per_epoch = math.ceil(state.epoch_length / getattr(state, "accumulate_steps", 1))
        self._total = self.total_steps or state.max_epochs * per_epoch
        self._drop_every = self.step_size or self.step_epochs * per_epoch
        if self.warmup_steps > self._total and state.iteration == 0:
            trainer.log_event(
                "notice",
                message=f"warm-up of {self.warmup_steps} steps is longer than the run of "
                f"{self._total}: the full learning rate is never reached",
            )
        self(trainer)

    @staticmethod
    def _named_groups(trainer: Trainer) -> dict[str, dict[str, Any]]:
        """The groups by name, where their full rates differ."""
        groups = trainer.optimizer.param_groups
        if len({float(group.get("initial_lr", group["lr"])) for group in groups}) == 1:
            return {}
        return {group["name"]: group for group in groups if "name" in group}

    def _note_full_rates(self, trainer: Trainer) -> float:
        """Note each group's full rate, of added groups too; returns the highest."""
        groups = trainer.optimizer.param_groups
        highest = max(group.setdefault("initial_lr", float(group["lr"])) for group in groups)
        if self._plateau is not None:  # nothing is reduced where all groups have the lowest rate
            self._plateau.min_lrs = [min(self.min_lr / highest, 1.0) if highest > 0 else 1.0]
        return highest

    def __call__(self, trainer: Trainer) -> None:
        """Set the rate of the next step."""
        step = trainer.state.optimizer_step
        warm = 1.0
        if step < self.warmup_steps and self.name != "one_cycle":
            start = self.warmup_start
            warm = start + (1 - start) * (step + 1) / (self.warmup_steps + 1)
        share, floor, cosine = self._share(step), self.min_lr, self.name == "cosine"
        for group in trainer.optimizer.param_groups:
            full = group["initial_lr"]
            if cosine and floor < full:
                rate = floor + (full - floor) * share
            else:
                rate = max(full * share, min(floor, full))
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * warm)
            else:
                group["lr"] = rate * warm

    @in_phase(Phase.DECIDE)
    def end_epoch(self, trainer: Trainer) -> None:
        """Report the rate, then see whether the monitor has stopped improving."""
        state = trainer.state
        state.metrics["lr"] = learning_rate(trainer.optimizer)
        for name, group in self._named_groups(trainer).items():
            state.metrics[f"lr/{name}"] = float(group["lr"])
        if self._plateau is None or (value := self.monitor.read(trainer)) is None:
            return
        before = self._share(state.optimizer_step)
        self._plateau.step(value)
        if self._share(state.optimizer_step) != before:
            self(trainer)
            trainer.log_event("lr_reduced", epoch=state.epoch, lr=learning_rate(trainer.optimizer))

    def _share(self, step: int) -> float:
        """The share of the full rate after so many steps."""
        if self._plateau is not None:
            return float(self._plateau.optimizer.param_groups[0]["lr"])
        if self.name == "step":
            return float(self.gamma ** (step // self._drop_every))
        if self.name == "cosine":
            done, span = step - self.warmup_steps, self._total - self.warmup_steps
            return _anneal(1.0, 0.0, done / span) if done > 0 and span > 0 else 1.0
        if self.name == "one_cycle":
            # The last of the T steps is the one after T - 1; it gets the lowest rate.
            last = self._total - 1
            top: float = self.warmup_steps or self.pct_start * self._total - 1
            low = 1 / self.div_factor
            if step < top:
                return _anneal(low, 1.0, step / top)
            fallen = (step - top) / (last - top) if last > top else 1.0
            return _anneal(1.0, low / self.final_div_factor, fallen)
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """The plateau's memory; the rest follows from the trainer's count of steps."""
        if self._plateau is None:
            return {"name": self.name}
        memory = {key: getattr(self._plateau, key) for key in PLATEAU_MEMORY}
        return {"name": self.name, "share": self._share(0), **memory}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue; ValueError if the state is another schedule's."""
        if state_dict["name"] != self.name:
            raise ValueError(f"the run had '{state_dict['name']}', now it has '{self.name}'")
        if self._plateau is not None:
            self._plateau.optimizer.param_groups[0]["lr"] = state_dict["share"]
            for key in PLATEAU_MEMORY:
                setattr(self._plateau, key, state_dict[key])


def _anneal(start: float, end: float, done: float) -> float:
    """Half a cosine from ``start`` to ``end``, as torch's ``OneCycleLR`` has it."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(done, 1.0)))

"""The learning rate over the steps: warm-up, then cosine, steps, one cycle, plateau or constant."""

import math
from collections.abc import Mapping, Sequence
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
        self._groups: list[dict[str, Any]] = []

    def attach(self, trainer: Trainer) -> None:
        """Listen to optimizer steps and to the ends of epochs; note each group's full rate."""
        self._groups = trainer.optimizer.param_groups
        self._adopt_groups()
        highest = max(group["initial_lr"] for group in self._groups)
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
        self._adopt_groups()
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

    def _adopt_groups(self) -> None:
        """Note each group's full rate, also of groups that were added since."""
        for group in self._groups:
            group.setdefault("initial_lr", float(group["lr"]))
        if self.name != "plateau":
            return
        known = [] if self._plateau is None else self._scales()
        if len(known) < len(self._groups):
            former = self._plateau
            self._plateau = self._reducer([group["initial_lr"] for group in self._groups])
            if former is not None:
                self._remember(former.__dict__, known)

    def __call__(self, trainer: Trainer) -> None:
        """Set the rate of the next step."""
        step = trainer.state.optimizer_step
        warm = 1.0
        if step < self.warmup_steps and self.name != "one_cycle":
            start = self.warmup_start
            warm = start + (1 - start) * (step + 1) / (self.warmup_steps + 1)
        share, floor, cosine = self._share(step), self.min_lr, self.name == "cosine"
        scales = self._plateau.optimizer.param_groups if self._plateau is not None else None
        for index, group in enumerate(trainer.optimizer.param_groups):
            full = group["initial_lr"]
            if cosine and floor < full:
                rate = floor + (full - floor) * share
            else:
                scale = share if scales is None else scales[index]["lr"]
                rate = max(full * scale, min(floor, full))
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
        value = None if self._plateau is None else self.monitor.read(trainer)
        if value is None:
            return
        assert self._plateau is not None
        before = self._scales()
        self._plateau.step(value)
        if self._scales() != before:
            self(trainer)
            trainer.log_event("lr_reduced", epoch=state.epoch, lr=learning_rate(trainer.optimizer))

    def _share(self, step: int) -> float:
        """The share of the full rate after so many steps; of a plateau each group has its own."""
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

    def _reducer(self, full_rates: list[float]) -> ReduceLROnPlateau:
        """Torch's scheduler over stand-in groups, whose rates are each group's scale."""
        stand_ins = [{"params": [torch.zeros(1)], "lr": 1.0} for _ in full_rates]
        return ReduceLROnPlateau(
            torch.optim.SGD(stand_ins),
            mode=self.monitor.mode,  # type: ignore[arg-type]
            factor=self.factor,
            patience=self.patience,
            cooldown=self.cooldown,
            threshold=self.threshold,
            threshold_mode=self.threshold_mode,  # type: ignore[arg-type]
            min_lr=[min(self.min_lr / full, 1.0) if full > 0 else 1.0 for full in full_rates],
            eps=0.0,
        )

    def _scales(self) -> list[float]:
        assert self._plateau is not None
        return [float(group["lr"]) for group in self._plateau.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The plateau's memory; the rest follows from the trainer's count of steps."""
        self._adopt_groups()
        if self._plateau is None:
            return {"name": self.name}
        memory = {key: getattr(self._plateau, key) for key in PLATEAU_MEMORY}
        return {"name": self.name, "scales": self._scales(), **memory}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue; ValueError if the state is another schedule's."""
        if state_dict["name"] != self.name:
            raise ValueError(f"the run had '{state_dict['name']}', now it has '{self.name}'")
        self._adopt_groups()
        if self._plateau is not None:
            saved, now = len(state_dict["scales"]), len(self._groups)
            if saved != now:
                raise ValueError(f"{saved} parameter groups saved, {now} now")
            self._remember(state_dict, state_dict["scales"])

    def _remember(self, memory: Mapping[str, Any], scales: Sequence[float]) -> None:
        assert self._plateau is not None
        for key in PLATEAU_MEMORY:
            setattr(self._plateau, key, memory[key])
        for group, scale in zip(self._plateau.optimizer.param_groups, scales, strict=False):
            group["lr"] = scale


def _anneal(start: float, end: float, done: float) -> float:
    """Half a cosine from ``start`` to ``end``, as torch's ``OneCycleLR`` has it."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(done, 1.0)))

"""Keeping NaN and infinite gradients away from the weights."""

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from datasets.errors import UsageError
from datasets.specs import optional_whole, require_choice, require_number
from engine.checkpointing import FiniteCheck, Snapshot, broken_weight
from engine.distributed import all_reduce_max, is_sharded, require_unsharded
from engine.events import Phase, TrainEvents
from engine.optim import fill_momentum, learning_rate, leaves_steps_out, scale_learning_rate
from engine.trainer import Trainer

POLICIES = ("skip", "rollback", "stop")


class NaNGuard:
    """Leaves out every step whose loss or gradients are not finite.

    A step is bad where the loss of any of its micro-batches, or an element of any gradient, is NaN
    or infinite, on any rank. It moves no weight and no momentum, and the model's saved buffers (a
    norm's running statistics) go back to their values before the step. Then the policy applies:

    - ``skip``: nothing more;
    - ``rollback``: weights, buffers and the optimizer's state go back to the end of the last epoch
      that ended with finite ones (at first, to the start of training), and every learning rate is
      multiplied by ``lr_factor`` for good. The data go on, and other handlers (EMA) keep their
      state. The copy is kept on the device, and saved with checkpoints within an epoch;
    - ``stop``: the training ends, as it does under any policy after more than ``max_skips`` bad
      steps in a row.

    On the CPU each step is checked at once, and a bad one is not counted as an optimizer step. On a
    GPU nothing waits: a fused optimizer leaves the step out by itself (``found_inf``, as for
    ``torch.amp.GradScaler``); it is counted at first, and taken back a few steps later
    (:class:`engine.optim.LeftOutSteps`). The number of bad steps is read, and the policy applied,
    every ``check_every`` steps, and at the epoch's end. Another optimizer has to wait for the
    device in each step, which is announced. With sharded weights each step is checked at once, and
    there is no rollback. In fp16 the loss's scaler leaves out steps with overflowing gradients:
    they count as skipped, but only a loss that is not finite is rolled back or stops.

    ``state.metrics["train/skipped_steps"]`` is the number in the epoch. Announces ``step_skipped``
    (the first of several in a row), ``steps_skipped`` (an epoch's number), ``rolled_back`` and
    ``training_stopped``.
    """

    phase = Phase.GUARD

    def __init__(
        self,
        policy: str = "skip",
        max_skips: int | None = None,
        lr_factor: float = 0.5,
        check_every: int | None = None,
    ) -> None:
        self.policy = require_choice("nan_guard.policy", policy, POLICIES)
        self.max_skips = optional_whole("nan_guard.max_skips", max_skips)
        self.lr_factor = require_number("nan_guard.lr_factor", lr_factor, high=1)
        if not self.lr_factor:
            raise UsageError("nan_guard.lr_factor must be above 0")
        self.check_every = optional_whole("nan_guard.check_every", check_every, 1)
        self._skipped = 0  # in this epoch
        self._in_a_row = 0
        self._judged = 0  # on the device
        self._on_device = self._scaled = self._losses_before = False
        self._snapshot: Snapshot | None = None
        self._snapshot_iteration: int | None = None
        self._moved_on = False  # from the snapshot

    def attach(self, trainer: Trainer) -> None:
        """Listen to losses, to whole accumulations and to the ends of epochs."""
        # Since the last check: bad steps, those to act on; bad steps in a row: now, at most.
        self._tally = torch.zeros(4, device=trainer.device)
        self._check = FiniteCheck(trainer.model, trainer.optimizer, trainer.device)
        if self.policy == "rollback":
            require_unsharded(trainer.model, "nan_guard with the policy rollback")
            self._snapshot = Snapshot(trainer.model, trainer.optimizer)
        trainer.left_out_steps.attach(trainer)
        trainer.register_state("nan_guard", self)
        trainer.provide_metrics("train/skipped_steps")
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        if any(True for _ in trainer.model.buffers()):
            keep = self._check.keep_buffers
            trainer.add_event_handler(TrainEvents.BATCH_READY, keep, phase=self.phase)
        trainer.add_event_handler(TrainEvents.GRADIENTS_READY, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)

    def start(self, trainer: Trainer) -> None:
        """Decide where steps are checked, and keep the finite state to go back to."""
        self._scaled = trainer.precision.scaler is not None
        each_step = self.check_every == 1 or is_sharded(trainer.model)
        each_step = each_step or (self.check_every is None and trainer.device.type == "cpu")
        self._on_device = not each_step and (self._scaled or leaves_steps_out(trainer.optimizer))
        if not each_step and not self._on_device:
            alone = f"{type(trainer.optimizer).__name__} cannot leave out a step by itself"
            reason = f"{alone}, as one built with fused: true can"
            if self.check_every is not None:
                raise UsageError(f"nan_guard.check_every must be 1: {reason}")
            if trainer.state.iteration == 0:
                message = f"nan_guard waits for the device in each step: {reason}"
                trainer.log_event("notice", message=message)
        self._losses_before = self._scaled or trainer.state.accumulate_steps > 1
        for wanted, event, handler in (
            (self._losses_before, TrainEvents.BACKWARD_COMPLETED, self.keep_loss),
            (self._on_device, Events.ITERATION_COMPLETED, self.after_step),
        ):
            if wanted and not trainer.has_event_handler(handler, event):
                trainer.add_event_handler(event, handler)
        if self._snapshot is not None and self._snapshot_iteration is None:
            if not self._snapshot.take():
                broken = broken_weight(trainer.model) or "the optimizer's memory"
                raise UsageError(f"nan_guard: {broken} is not finite before any training")
            self._snapshot_iteration, self._moved_on = trainer.state.iteration, False

    def start_epoch(self, trainer: Trainer) -> None:
        """List the optimizer's parameters; unfreezing may have added some."""
        self._check.start_epoch()
        if self._on_device:
            fill_momentum(trainer.optimizer)

    def keep_loss(self, trainer: Trainer) -> None:
        """Keep a micro-batch's loss until its accumulation is whole."""
        # A scaler looks at gradients only, so a bad loss has to show in one of them.
        self._check.keep_loss(trainer.state.losses["total_loss"], show=self._scaled)

    def __call__(self, trainer: Trainer) -> None:
        """Check a step."""
        self._moved_on = True
        if not self._losses_before:
            self.keep_loss(trainer)
        # A loss is of one rank; a bad one is bad for all.
        bad = all_reduce_max(self._check.verdict())
        if self._on_device:
            self._leave_out(trainer, bad)
        elif bad.item():
            trainer.state.skip_step = True
            self._check.put_buffers_back()
            self._skipped += 1
            self._in_a_row += 1
            bad_loss = bool(all_reduce_max(self._check.loss_verdict()).item())
            what = "the loss" if bad_loss else f"the gradient of {self._check.broken_gradient()}"
            if self._in_a_row == 1:
                message = f"{what} is not finite"
                trainer.log_event("step_skipped", **_place(trainer), message=message)
            self._act(trainer, bad_loss or not self._scaled, self._in_a_row, what)
        else:
            self._in_a_row = 0

    def _leave_out(self, trainer: Trainer, bad: Tensor) -> None:
        """Have the optimizer leave the step out on the device if it is bad."""
        if not self._scaled:  # whose scaler does so itself
            trainer.optimizer.found_inf = bad  # type: ignore[attr-defined]
            trainer.left_out_steps.note(bad)
        self._check.put_buffers_back(where=bad)
        skipped, to_act_on, row, longest = self._tally.unbind()
        skipped.add_(bad)
        to_act_on.add_(all_reduce_max(self._check.loss_verdict()) if self._scaled else bad)
        if self.max_skips is not None:
            row.add_(bad).mul_(bad)
            torch.maximum(longest, row, out=longest)

    def after_step(self, trainer: Trainer) -> None:
        """Drop the step's flag; read the counts where it is due."""
        if not trainer.state.sync_gradients:
            return
        trainer.optimizer.__dict__.pop("found_inf", None)
        self._judged += 1
        if self.check_every and self._judged % self.check_every == 0:
            self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        """Read the counts since the last time from the device, and apply the policy."""
        skipped, acted_on, row, longest = self._tally.tolist()
        self._tally.copy_(torch.tensor([0.0, 0.0, row, 0.0]))
        self._skipped += int(skipped)
        self._act(trainer, acted_on > 0, int(longest), "a loss or a gradient")

    def _act(self, trainer: Trainer, on_policy: bool, in_a_row: int, what: str) -> None:
        if self.policy == "stop" and on_policy:
            self._stop(trainer, f"{what} is not finite")
        elif self.max_skips is not None and in_a_row > self.max_skips:
            limit = f"nan_guard.max_skips is {self.max_skips}"
            self._stop(trainer, f"{in_a_row} steps in a row were not finite; {limit}")
        elif self.policy == "rollback" and on_policy:
            self._roll_back(trainer, f"{what} is not finite")

    def _stop(self, trainer: Trainer, message: str) -> None:
        trainer.log_event("training_stopped", **_place(trainer), message=message)
        trainer.terminate()

    def _roll_back(self, trainer: Trainer, message: str) -> None:
        assert self._snapshot is not None
        self._snapshot.restore()
        if self._on_device:
            fill_momentum(trainer.optimizer)
        scale_learning_rate(trainer.optimizer, self.lr_factor)
        trainer.log_event(
            "rolled_back",
            **_place(trainer),
            to_iteration=self._snapshot_iteration,
            lr=learning_rate(trainer.optimizer),
            message=message,
        )

    def end_epoch(self, trainer: Trainer) -> None:
        """Report the epoch's number, and keep its state if it is finite."""
        state = trainer.state
        if self._on_device:
            self._look(trainer)
        state.metrics["train/skipped_steps"] = float(self._skipped)
        if self._skipped:
            trainer.log_event("steps_skipped", epoch=state.epoch, steps=self._skipped)
        self._skipped = 0
        if self._snapshot is not None:
            if self._snapshot.take():
                self._snapshot_iteration, self._moved_on = state.iteration, False
            else:  # finite gradients, but infinite weights
                self._roll_back(trainer, "the weights are not finite")

    def state_dict(self) -> dict[str, Any]:
        """The counts, and the state to go back to, unless it is the one being saved."""
        carried = self._snapshot is not None and self._moved_on
        return {
            "skipped": self._skipped,
            "in_a_row": self._in_a_row,
            "judged": self._judged,
            "tally": self._tally.tolist(),
            "snapshot": self._snapshot.state_dict() if self._snapshot and carried else None,
            "snapshot_iteration": self._snapshot_iteration if carried else None,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the counts; without a state to go back to, the start keeps the present one."""
        self._skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]
        self._judged = state_dict["judged"]
        self._tally.copy_(torch.tensor(state_dict["tally"]))
        self._snapshot_iteration = None
        if self._snapshot is not None and state_dict["snapshot"] is not None:
            self._snapshot.load_state_dict(state_dict["snapshot"])
            self._snapshot_iteration, self._moved_on = state_dict["snapshot_iteration"], True


def _place(trainer: Trainer) -> dict[str, int]:
    return {"epoch": trainer.state.epoch, "iteration": trainer.state.iteration}

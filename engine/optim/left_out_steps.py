"""Optimizer steps that the device left out, counted without waiting for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events
from torch import Tensor

from engine.events import Phase, in_phase

if TYPE_CHECKING:
    from engine.trainer import Trainer

# Steps after which a verdict is read: the device has computed it by then. A fixed number keeps runs
# repeatable.
STEPS_LATER = 3


class LeftOutSteps:
    """Subtracts counted steps that a fused optimizer left out for a non-finite gradient.

    The verdict is read :data:`STEPS_LATER` steps later, or at the epoch's end, and
    ``state.optimizer_step`` is then lowered: a learning rate schedule goes on as if the step had
    not been. Averages of weights multiply their change by ``1 - flag``.

    Attributes:
        flag: 1 if the device leaves out the present step, else 0, a scalar on the device; None if
            no handler leaves steps to the device.
        taken_back: Steps of the run known to be left out.
    """

    def __init__(self) -> None:
        self.flag: Tensor | None = None
        self.taken_back = 0
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        self._trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> None:
        """Read the remaining verdicts at each epoch's end; handlers may call it repeatedly."""
        if self._trainer is None:
            self._trainer = trainer
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self.settle)

    def note(self, flag: Tensor) -> None:
        """Note the verdict (a scalar on the device, 1 or 0) of a step that is not counted yet."""
        self.flag = flag
        verdict = torch.empty_like(flag, device="cpu", pin_memory=flag.is_cuda)
        verdict.copy_(flag, non_blocking=True)
        computed = None
        if flag.is_cuda:
            computed = torch.cuda.Event()
            computed.record()
        self._waiting.append((verdict, computed))
        if len(self._waiting) > STEPS_LATER:
            self._take_back()

    def open_verdicts(self) -> tuple[Tensor, ...]:
        """The verdicts of the last steps, not read yet; valid once the device has computed them."""
        return tuple(verdict for verdict, _ in self._waiting)

    def _take_back(self) -> None:
        verdict, computed = self._waiting.popleft()
        if computed is not None:
            computed.synchronize()
        # NumPy reads the memory without an operation of torch.
        if float(verdict.numpy()) and self._trainer is not None:
            self._trainer.state.optimizer_step -= 1
            self.taken_back += 1

    @in_phase(Phase.UPDATE)
    def settle(self) -> None:
        """Read all remaining verdicts."""
        while self._waiting:
            self._take_back()

    def state_dict(self) -> dict[str, Any]:
        """The count and the remaining verdicts; waits for the device."""
        for _, computed in self._waiting:
            if computed is not None:
                computed.synchronize()
        verdicts = [float(verdict.numpy()) for verdict, _ in self._waiting]
        return {"taken_back": self.taken_back, "verdicts": verdicts}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the count; saved verdicts are read when the saved run would have."""
        self.taken_back = state_dict["taken_back"]
        self._waiting = deque((torch.tensor(each), None) for each in state_dict["verdicts"])

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

# A verdict is read so many steps later, when the device has long computed it. A fixed number keeps
# runs repeatable.
STEPS_LATER = 3


class LeftOutSteps:
    """Takes back steps that were counted, but moved no weight.

    A fused optimizer leaves a step out by itself where a gradient is not finite, so that the loop
    need not wait for the verdict. The verdict is read :data:`STEPS_LATER` steps later, or at the
    epoch's end, and ``state.optimizer_step`` is then lowered: what follows the steps taken (a
    learning rate schedule) goes on as if the step had not been. What follows the weights at once
    (an average) multiplies its change by ``1 - flag``.

    Attributes:
        flag: 1 where the device leaves out the present step, else 0, a scalar on the device; None
            where no handler leaves steps to the device.
        taken_back: Steps of the run that are known to have been left out.
    """

    def __init__(self) -> None:
        self.flag: Tensor | None = None
        self.taken_back = 0
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        self._trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> None:
        """Read what is left at each epoch's end; several handlers may ask for it."""
        if self._trainer is None:
            self._trainer = trainer
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self.settle)

    def note(self, flag: Tensor) -> None:
        """Note a verdict of the present step, before it is counted.

        Args:
            flag: A scalar on the device, 1 or 0; read by the device only.
        """
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
        """The verdicts, 1 or 0, of the last steps, which are counted and may yet be taken back.

        They are on the CPU, but filled in when the device has come to them.
        """
        return tuple(verdict for verdict, _ in self._waiting)

    def _take_back(self) -> None:
        verdict, computed = self._waiting.popleft()
        if computed is not None:
            computed.synchronize()
        # Through NumPy, which reads the memory without an operation of torch's.
        if float(verdict.numpy()) and self._trainer is not None:
            self._trainer.state.optimizer_step -= 1
            self.taken_back += 1

    @in_phase(Phase.UPDATE)
    def settle(self) -> None:
        """Read all verdicts that are left."""
        while self._waiting:
            self._take_back()

    def state_dict(self) -> dict[str, Any]:
        """The count, and the verdicts that are not read yet; waits for the device."""
        for _, computed in self._waiting:
            if computed is not None:
                computed.synchronize()
        verdicts = [float(verdict.numpy()) for verdict, _ in self._waiting]
        return {"taken_back": self.taken_back, "verdicts": verdicts}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the count; saved verdicts are read when the saved run would have."""
        self.taken_back = state_dict["taken_back"]
        self._waiting = deque((torch.tensor(each), None) for each in state_dict["verdicts"])

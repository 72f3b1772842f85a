"""Mixed precision: TF32, bfloat16 or float16."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor
from torch.optim import Optimizer

from datasets.errors import UsageError
from datasets.specs import require_choice, require_range, require_whole
from engine.evaluator import Evaluator
from engine.events import Phase
from engine.optim import LeftOutSteps
from engine.precision import Precision, has_bf16_instructions
from engine.trainer import Trainer

# Autocast's type; None where everything stays in fp32.
PRECISIONS: dict[str, torch.dtype | None] = {
    "fp32": None,
    "tf32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
# Replaces those that need a GPU where there is none.
WITHOUT_GPU = {"tf32": "fp32", "fp16": "bf16"}
SLOW_BF16 = (
    "bf16: this processor has no instructions for bfloat16; fp32 is probably several times faster"
)
# torch.amp.GradScaler's own defaults (Micikevicius et al. 2018, "Mixed Precision Training").
INIT_SCALE = 2.0**16
OVERFLOWED = "train/overflowed_steps"
GROWTH_INTERVAL = 2000


@contextmanager
def tf32_products() -> Iterator[None]:
    """A context in which a GPU multiplies fp32 matrices in TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class MixedPrecision(Precision):
    """Autocast for a trainer and the evaluators beside it.

    The weights stay in fp32. ``tf32`` keeps fp32 throughout, but matrix products, forward and
    backward, read 10 bits of each fraction in place of 23 (NVIDIA's TensorFloat-32). ``fp16``
    scales the loss so that small gradients do not vanish, from ``init_scale`` on, doubled after
    each ``growth_interval`` steps without an overflow. ``tf32`` and ``fp16`` need a GPU: elsewhere
    fp32 and bf16 replace them, which is announced once, as is a processor without bf16
    instructions; ``precision`` is then the one in use.

    A step that fp16 leaves out, for gradients that overflowed, moves neither the schedule nor
    averaged weights. On a GPU its flag is read a few steps later
    (:class:`engine.optim.LeftOutSteps`). ``state.metrics["train/overflowed_steps"]`` is their
    number in the epoch; ``steps_overflowed`` is announced where it is not 0.
    """

    phase = Phase.PREPARE

    def __init__(
        self,
        precision: str = "fp32",
        init_scale: float = INIT_SCALE,
        growth_interval: int = GROWTH_INTERVAL,
    ) -> None:
        self.precision = require_choice("mixed_precision.precision", precision, PRECISIONS)
        what = "mixed_precision.init_scale"
        self.init_scale = require_range(what, init_scale, 0, math.inf, open_low=True)
        self.growth_interval = require_whole("mixed_precision.growth_interval", growth_interval, 1)
        self.scaler: torch.amp.GradScaler | None = None
        self._device_type: str | None = None
        self._left_out: LeftOutSteps | None = None
        self._overflowed: Tensor | float = 0.0  # steps of this epoch
        self._notices: list[str] = []  # to log
        self._announced: list[str] = []

    def attach(self, engine: Trainer | Evaluator) -> None:
        """Set the precision of a trainer or an evaluator, all on one type of device."""
        if self._device_type not in (None, engine.device.type):
            raise UsageError(
                f"mixed_precision is attached to an engine on {self._device_type}, this one is on "
                f"{engine.device.type}: give each its own"
            )
        lines = self._settle(engine.device.type) if self._device_type is None else []
        engine.precision = self
        trainer: Any = engine if hasattr(engine, "register_state") else None
        if trainer is not None:
            trainer.register_state("mixed_precision", self)
            self._left_out = trainer.left_out_steps
            trainer.left_out_steps.attach(trainer)
            if self.scaler is not None:
                trainer.provide_metrics(OVERFLOWED)
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
            if lines:
                self._notices = lines
                trainer.add_event_handler(Events.STARTED, self.log_notices)
        else:
            for line in lines:
                warnings.warn(line, stacklevel=2)

    def _settle(self, device_type: str) -> list[str]:
        """Choose the precision for a device; returns notices for the user."""
        self._device_type = device_type
        lines: list[str] = []
        if device_type == "cuda":
            if self.precision == "fp16":
                self.scaler = torch.amp.GradScaler(
                    device_type, init_scale=self.init_scale, growth_interval=self.growth_interval
                )
            return lines
        if self.precision in WITHOUT_GPU:
            asked, self.precision = self.precision, WITHOUT_GPU[self.precision]
            lines.append(f"{asked} needs a GPU: computing in {self.precision} on the {device_type}")
        # None: torch cannot tell.
        if device_type == "cpu" and self.precision == "bf16" and has_bf16_instructions() is False:
            lines.append(SLOW_BF16)
        return lines

    def log_notices(self, trainer: Trainer) -> None:
        """Log, once in a run, that another precision is used, or that it is slow."""
        for line in self._notices:
            trainer.log_event("notice", message=line)
        self._announced += self._notices
        self._notices = []

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the model and its loss compute."""
        if self._device_type is None or self.precision == "fp32":
            return super().autocast()
        if self.precision == "tf32":
            return tf32_products()
        return torch.autocast(self._device_type, PRECISIONS[self.precision])

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, scaled up in fp16."""
        with tf32_products() if self.precision == "tf32" else nullcontext():
            super().backward(loss if self.scaler is None else self.scaler.scale(loss))

    def unscale(self, optimizer: Optimizer) -> None:
        """Scale fp16's gradients back."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> bool:
        """Step, unless fp16's gradients overflowed, and adapt the scale."""
        if self.scaler is None:
            return super().step(optimizer)
        # Private, but the scaler's public way to tell of an overflow waits for the device.
        (flag,) = self.scaler._found_inf_per_device(optimizer).values()
        self.scaler.step(optimizer)
        self.scaler.update()
        self._overflowed = self._overflowed + flag
        if not flag.is_cuda:
            return not float(flag)
        if self._left_out is not None:
            self._left_out.note(flag)
        return True

    def end_epoch(self, trainer: Trainer) -> None:
        """Report how many steps of the epoch overflowed."""
        if self.scaler is None:
            return
        steps, self._overflowed = int(self._overflowed), 0.0
        trainer.state.metrics[OVERFLOWED] = float(steps)
        if steps:
            epoch = trainer.state.epoch
            message = f"epoch {epoch}: {steps} steps overflowed in fp16 and moved no weight"
            trainer.log_event("steps_overflowed", epoch=epoch, steps=steps, message=message)

    def skip(self, optimizer: Optimizer) -> None:
        """Adapt the scale alone: an overflow may have made a handler veto the step."""
        if self.scaler is not None:
            self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The scale with its history, and the notices announced."""
        scaler = {} if self.scaler is None else self.scaler.state_dict()
        return {
            "precision": self.precision,
            "scaler": scaler,
            "overflowed": float(self._overflowed),
            "said": list(self._announced),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue with a saved scale, which a run saved in another precision lacks."""
        if self.scaler is not None and state_dict["scaler"]:
            self.scaler.load_state_dict(dict(state_dict["scaler"]))
        self._overflowed = state_dict.get("overflowed", 0.0)
        # On another type of device there may be more notices.
        self._announced = list(state_dict.get("said", ()))
        self._notices = [line for line in self._notices if line not in self._announced]

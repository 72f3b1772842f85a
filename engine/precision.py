"""How a step computes, goes backward and updates; mixed precision is a subclass."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.optim import Optimizer

# Torch's names of bfloat16 instructions: x86, x86 with a matrix unit, Arm.
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


class Precision:
    """Full fp32 precision; ``scaler`` of a subclass scales the loss and skips overflowed steps."""

    scaler: torch.amp.GradScaler | None = None

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the model and its loss compute."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss`` (a scalar) to the parameters."""
        loss.backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: Optimizer) -> None:
        """Unscale the gradients, before handlers read them."""

    def step(self, optimizer: Optimizer) -> bool:
        """Update the weights; False if the step is known to be skipped."""
        optimizer.step()
        return True

    def skip(self, optimizer: Optimizer) -> None:
        """Called in place of :meth:`step` if a handler vetoed the step."""


def best_device(name: str = "auto") -> torch.device:
    """The device of a name such as ``cuda:1``; ``auto`` is CUDA if available, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device '{name}' is unknown; choose auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device '{name}' asked for, but no CUDA device is available; use cpu")
    return device


def has_bf16_instructions() -> bool | None:
    """Whether the processor has them (without, bf16 is several times slower); None if unknown."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is None:
        return None
    found = capabilities()
    return any(found.get(name, False) for name in BF16_INSTRUCTIONS)

"""Finding what would make a training step wait for the GPU, without a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine import Trainer

ASKS_FOR_A_VALUE = (
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.equal.default,
)


class NoWaiting(TorchDispatchMode):
    """Refuses operations that bring a tensor's value to Python: ``item``, ``float``, ``if``."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        assert operation not in ASKS_FOR_A_VALUE, f"{operation} waits for the device"
        return operation(*args, **(kwargs or {}))


def refuse_waiting_in_steps(trainer: Trainer) -> None:
    """Have each training step fail where it, or a handler within it, asks for a value."""
    step = trainer._process_function

    def watched(engine: Any, batch: Any) -> Any:
        with NoWaiting():
            return step(engine, batch)

    trainer._process_function = watched

"""What a handler is, and what can be saved and restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from engine.trainer import Trainer

# From a model's outputs and the targets to named scalars, ``total_loss`` among them.
Loss = Callable[[Mapping[str, Any], Tensor], Mapping[str, Tensor]]


@runtime_checkable
class Stateful(Protocol):
    """Whatever a checkpoint saves: models, optimisers, samplers, handlers with a memory.

    A state holds tensors and plain Python types only, so that it loads with
    ``torch.load(weights_only=True)``.
    """

    def state_dict(self) -> Mapping[str, Any]:
        """What has to be kept to continue as if nothing had happened."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take back what :meth:`state_dict` gave."""
        ...


@runtime_checkable
class Handler(Protocol):
    """An independent piece of training policy: it listens to events and knows no other handler."""

    def attach(self, trainer: Trainer) -> Any:
        """Listen to the trainer's events; register state with ``trainer.keep``."""
        ...

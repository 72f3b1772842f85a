"""Types of losses, handlers, and what can be saved and restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from engine.distributed import map_tensors

if TYPE_CHECKING:
    from engine.trainer import Trainer

# From a model's outputs and the targets to named scalars, ``total_loss`` among them. A loss that
# takes the keyword ``aux`` is given the batch's (``datasets.batches.Batch.aux``) where there
# is one.
#
# Each term is a mean over the batch. A loss may say how means of several batches are put together
# (micro-batches of an accumulated step, processes, the batches of an epoch):
# - ``weighted``: True if some mean is not divided by the number of samples;
# - ``denominators(targets, aux=None)``: term -> what its mean was divided by instead, a scalar;
# - ``total(terms)``: the ``total_loss`` that belongs to the other terms.
Loss = Callable[..., Mapping[str, Tensor]]


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint saves: models, optimizers, samplers, handlers with state.

    A state holds tensors and plain Python types (``torch.load(weights_only=True)``). Objects that
    differ between ranks declare ``of_each_process = True``; they have a ``reset`` for resuming with
    another number of ranks.
    """

    def state_dict(self) -> Mapping[str, Any]:
        """What is needed to resume."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Restore what :meth:`state_dict` returned."""
        ...


class SavedAttributes:
    """Base of handlers whose state is the attributes in ``saved``, by their names without ``_``."""

    saved: tuple[str, ...]
    _device = torch.device("cpu")  # of tensors among them

    def state_dict(self) -> dict[str, Any]:
        """The attributes' values."""
        return {name.lstrip("_"): copy(getattr(self, name)) for name in self.saved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Set the attributes; tensors are copied."""
        for name in self.saved:
            saved = state_dict[name.lstrip("_")]
            setattr(self, name, map_tensors(saved, lambda t: t.to(self._device, copy=True)))


@runtime_checkable
class Handler(Protocol):
    """An independent part of training: it listens to events and knows no other handler.

    With ``first_process_only = True`` (files, the console) it is attached on rank 0 only.
    """

    def attach(self, trainer: Trainer) -> Any:
        """Listen to the trainer's events; register state with ``trainer.register_state``."""
        ...

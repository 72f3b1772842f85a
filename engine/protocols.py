"""What a handler is, and what can be saved and restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from engine.trainer import Trainer

# From a model's outputs and the targets to named scalars, ``total_loss`` among them. A loss that
# takes the keyword ``aux`` is given the batch's (``datasets.batches.batch.Batch.aux``) where there
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
    """Whatever a checkpoint saves: models, optimisers, samplers, handlers with a memory.

    A state holds tensors and plain Python types only, so that it loads with
    ``torch.load(weights_only=True)``.

    What differs from process to process where several train together declares
    ``of_each_process = True``, so that each process's state is saved, and has a ``reset``, which is
    called where another number of processes goes on.
    """

    def state_dict(self) -> Mapping[str, Any]:
        """What has to be kept to continue as if nothing had happened."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take back what :meth:`state_dict` gave."""
        ...


@runtime_checkable
class Handler(Protocol):
    """An independent piece of training policy: it listens to events and knows no other handler.

    One that writes files or speaks to a person declares ``first_process_only = True``: of several
    processes only the first has it.
    """

    def attach(self, trainer: Trainer) -> Any:
        """Listen to the trainer's events; register state with ``trainer.register_state``."""
        ...

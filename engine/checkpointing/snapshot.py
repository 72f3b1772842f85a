"""A copy in memory of the weights and of the optimizer's memory, to go back to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Snapshot:
    """Keeps one good state of a model and its optimizer, on the device where they are.

    It holds all parameters and buffers of the model, what else the optimizer moves, and the
    optimizer's memory (momenta, counts of steps). The settings of its groups, such as the
    learning rate, are no part of it. Memory: as much as the model and the optimizer's memory.

    Args:
        model: Its tensors are copied.
        optimizer: Its memory is copied, and its parameters that are not the model's.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> snapshot = Snapshot(model, torch.optim.SGD(model.parameters(), 0.1))
        >>> good = model.weight.item()
        >>> snapshot.take()
        True
        >>> _ = nn.init.constant_(model.weight, float("nan"))
        >>> snapshot.take()
        False
        >>> snapshot.restore()
        >>> model.weight.item() == good
        True
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._model = model
        self._optimizer = optimizer
        self._tensors: list[Tensor] = []
        self._memory: dict[Any, Any] = {}

    def _live(self) -> tuple[list[Tensor], list[Tensor]]:
        """The weights, each once, and the buffers."""
        groups = self._optimizer.param_groups
        moved = [p for group in groups for p in group["params"]]
        weights = {id(p): p for p in (*self._model.parameters(), *moved)}
        return list(weights.values()), list(self._model.buffers())

    @torch.no_grad()
    def take(self) -> bool:
        """Copy the present state, if it is whole; waits for the device once.

        Whole is: no weight and no momentum that is NaN or infinite, no buffer that is NaN (an
        infinite one may be meant).

        Returns:
            Whether it was; otherwise the earlier copy stays.
        """
        weights, buffers = self._live()
        memory = self._optimizer.state_dict()["state"]
        flags = [torch.isfinite(t).all() for t in (*weights, *_tensors_in(memory))]
        flags += [~torch.isnan(buffer).any() for buffer in buffers]
        device = weights[0].device
        if not bool(torch.stack([flag.to(device) for flag in flags]).all()):
            return False
        self._tensors = [tensor.detach().clone() for tensor in (*weights, *buffers)]
        self._memory = _copy(memory)
        return True

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights, buffers and the optimizer's memory back; the copy stays as it is."""
        weights, buffers = self._live()
        for live, kept in zip((*weights, *buffers), self._tensors, strict=True):
            live.copy_(kept)
        groups = self._optimizer.state_dict()["param_groups"]
        # The optimizer takes the tensors themselves, not copies.
        self._optimizer.load_state_dict({"state": _copy(self._memory), "param_groups": groups})

    def state_dict(self) -> dict[str, Any]:
        """The copy."""
        return {"tensors": list(self._tensors), "memory": _copy(self._memory)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a saved copy for one's own.

        Raises:
            ValueError: It is another model's.
        """
        weights, buffers = self._live()
        live, kept = [*weights, *buffers], state_dict["tensors"]
        if [t.shape for t in live] != [t.shape for t in kept]:
            raise ValueError("the kept copy of the weights is another model's")
        self._tensors = [k.to(tensor.device) for k, tensor in zip(kept, live, strict=True)]
        self._memory = _copy(state_dict["memory"])


def _tensors_in(memory: Mapping[Any, Any]) -> Iterable[Tensor]:
    for of_parameter in memory.values():
        for value in of_parameter.values():
            if isinstance(value, Tensor):
                yield value


def _copy(memory: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        parameter: {
            key: value.detach().clone() if isinstance(value, Tensor) else value
            for key, value in of_parameter.items()
        }
        for parameter, of_parameter in memory.items()
    }

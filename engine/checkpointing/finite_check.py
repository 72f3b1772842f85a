"""Whether an optimizer step is finite, and a copy in memory to go back to."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.distributed import to_local


class FiniteCheck:
    """Checks the (detached) losses, then the gradients, of one optimizer step after the other.

    The verdict is a tensor on the device, 1 where something is NaN or infinite, else 0; it is not
    read here. Saved buffers (running statistics) can be put back where it is 1.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, device: torch.device) -> None:
        self._model, self._optimizer = model, optimizer
        self._one = torch.ones((), device=device)
        self._bad = torch.zeros((), device=device)
        self._bad_loss = torch.zeros((), device=device)
        self._parameters: list[list[nn.Parameter]] = []  # by type, the smallest first
        self._open: list[Tensor] = []  # losses of the unfinished step
        self._closed: list[Tensor] = []
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []

    def start_epoch(self) -> None:
        """List parameters and buffers; forget an incomplete step."""
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        by_type: dict[torch.dtype, list[nn.Parameter]] = {}
        for parameter in sorted(parameters, key=torch.numel):
            by_type.setdefault(parameter.dtype, []).append(parameter)
        self._parameters = list(by_type.values())
        saved = self._model.state_dict().keys()
        # Constants, which are not worth copying, are mostly kept out of checkpoints.
        self._buffers = [b for name, b in self._model.named_buffers() if name in saved]
        self._kept = [buffer.clone() for buffer in self._buffers]
        self._open = []

    def keep_buffers(self) -> None:
        """Copy the buffers, at a step's first micro-batch."""
        if self._buffers and not self._open:
            torch._foreach_copy_(self._kept, self._buffers)

    def keep_loss(self, loss: Tensor, show: bool = False) -> None:
        """Keep a micro-batch's loss; with ``show`` one that is not finite makes a gradient NaN."""
        dtype = self._parameters[0][0].dtype
        self._open.append(loss if loss.dtype == dtype else loss.to(dtype))
        graded = (p.grad for p in self._parameters[0] if show and p.grad is not None)
        if (shown := next(graded, None)) is not None:
            shown.add_(loss * 0.0)

    def verdict(self) -> Tensor:
        """1 if a loss or a gradient of the step is not finite; ends the step."""
        self._closed, self._open = self._open, []
        self._bad.zero_()
        beside = self._closed
        for parameters in self._parameters:
            found = to_local([p.grad for p in parameters if p.grad is not None]) + beside
            beside = []
            if found:
                # One kernel for all, made for gradient scaling; here they are multiplied by one.
                torch._amp_foreach_non_finite_check_and_unscale_(found, self._bad, self._one)
        return self._bad

    def loss_verdict(self) -> Tensor:
        """1 if a loss of the last ended step is not finite."""
        self._bad_loss.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_(self._closed, self._bad_loss, self._one)
        return self._bad_loss

    def put_buffers_back(self, where: Tensor | None = None) -> None:
        """Restore the kept buffers: if ``where`` holds 1, or always by default."""
        for buffer, kept in zip(self._buffers, self._kept, strict=True):
            buffer.copy_(kept if where is None else torch.where(where > 0, kept, buffer))

    def broken_gradient(self) -> str:
        """The name of a parameter whose gradient is not finite; waits for the device."""
        graded = ((n, p.grad) for n, p in self._model.named_parameters() if p.grad is not None)
        broken = (name for name, grad in graded if not torch.isfinite(grad).all())
        return next(broken, "a parameter outside the model")


class Snapshot:
    """A copy of a model's weights and buffers, and of the optimizer's state without settings."""

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
        """Copy the state if it is finite, and tell whether it is (buffers: not NaN)."""
        weights, buffers = self._live()
        memory = self._optimizer.state_dict()["state"]
        momenta = [t for own in memory.values() for t in own.values() if isinstance(t, Tensor)]
        flags = [torch.isfinite(t).all() for t in (*weights, *momenta)]
        flags += [~torch.isnan(buffer).any() for buffer in buffers]
        device = weights[0].device
        if not bool(torch.stack([flag.to(device) for flag in flags]).all()):
            return False
        self._tensors = [tensor.detach().clone() for tensor in (*weights, *buffers)]
        self._memory = deepcopy(memory)
        return True

    @torch.no_grad()
    def restore(self) -> None:
        """Put weights, buffers and the optimizer's state back; the copy stays."""
        weights, buffers = self._live()
        for live, kept in zip((*weights, *buffers), self._tensors, strict=True):
            live.copy_(kept)
        groups = self._optimizer.state_dict()["param_groups"]
        # The optimizer takes the tensors themselves, not copies.
        self._optimizer.load_state_dict({"state": deepcopy(self._memory), "param_groups": groups})

    def state_dict(self) -> dict[str, Any]:
        """The copy."""
        return {"tensors": list(self._tensors), "memory": deepcopy(self._memory)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a saved copy; ValueError if it is another model's."""
        weights, buffers = self._live()
        live, kept = [*weights, *buffers], state_dict["tensors"]
        if [t.shape for t in live] != [t.shape for t in kept]:
            raise ValueError("the kept copy of the weights is another model's")
        self._tensors = [k.to(tensor.device) for k, tensor in zip(kept, live, strict=True)]
        self._memory = deepcopy(state_dict["memory"])

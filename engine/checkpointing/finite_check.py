"""Whether all losses and gradients of an accumulation window are finite, without asking a GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engine.distributed import to_local


class FiniteCheck:
    """Looks at one window after the other: first its losses, then the gradients they led to.

    The verdict is a tensor on the device, 1 where something was NaN or infinite, else 0, which
    only the caller may read. What a forward pass did to the model's saved buffers (a norm's
    running statistics) can be undone with it. Nothing here has a graph: neither gradients, nor
    losses that are detached, nor buffers.

    Args:
        model: Its buffers are kept.
        optimizer: Its parameters' gradients are looked at.
        device: Where both are.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, device: torch.device) -> None:
        self._model, self._optimizer = model, optimizer
        self._one = torch.ones((), device=device)
        self._bad = torch.zeros((), device=device)
        self._bad_loss = torch.zeros((), device=device)
        self._parameters: list[list[nn.Parameter]] = []  # by type, the smallest first
        self._open: list[Tensor] = []  # losses of the window that is not whole yet
        self._closed: list[Tensor] = []
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []

    def start_epoch(self) -> None:
        """List what there is now; a window that was cut short is forgotten."""
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
        """Remember the buffers, at a window's first micro-batch; the others change nothing."""
        if self._buffers and not self._open:
            torch._foreach_copy_(self._kept, self._buffers)

    def keep_loss(self, loss: Tensor, show: bool = False) -> None:
        """Remember a micro-batch's loss, after its gradients were added.

        Args:
            loss: A scalar without a graph.
            show: Have a loss that is not finite make a gradient NaN.
        """
        dtype = self._parameters[0][0].dtype
        self._open.append(loss if loss.dtype == dtype else loss.to(dtype))
        if show:
            for parameter in self._parameters[0]:
                if parameter.grad is not None:
                    parameter.grad.add_(loss * 0.0)
                    break

    def verdict(self) -> Tensor:
        """1 if a loss or a gradient of the window is not finite; ends the window."""
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
        """1 if a loss of the window that was ended last is not finite."""
        self._bad_loss.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_(self._closed, self._bad_loss, self._one)
        return self._bad_loss

    def put_buffers_back(self, where: Tensor | None = None) -> None:
        """Undo what happened to the buffers since they were kept.

        Args:
            where: Only if this holds 1; always by default.
        """
        for buffer, kept in zip(self._buffers, self._kept, strict=True):
            buffer.copy_(kept if where is None else torch.where(where > 0, kept, buffer))

    def broken_gradient(self) -> str:
        """The name of a parameter whose gradient is not finite; waits for the device."""
        for name, parameter in self._model.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                return name
        return "a parameter outside the model"

"""AdamW that knows its tensors from the step before."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

# Torch's own step, without what it wraps around that of each class: this class's has that already.
WHOLE_STEP: Callable[[AdamW], None] = inspect.unwrap(AdamW.step)
UNUSUAL = ("amsgrad", "maximize", "differentiable", "capturable")


class LeanAdamW(AdamW):
    """AdamW (Loshchilov and Hutter 2019) as torch computes it, fused, with less to do before it.

    In each step torch looks up what it keeps of each parameter, and sorts all of it by device and
    type: on a small model that takes several times as long as the kernel. Here the lists of one
    step serve the next, for as long as the same parameters have gradients. Anything out of the
    ordinary (a scaler that reports an overflow, a step that makes the memory of a parameter, or
    options such as ``amsgrad``) is left to torch.

    Args:
        params: As for :class:`torch.optim.AdamW`.
        **settings: Likewise; ``fused`` is True unless told otherwise.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> LeanAdamW(model.parameters(), lr=0.1).param_groups[0]["fused"]
        True
    """

    def __init__(self, params: Any, **settings: Any) -> None:
        settings.setdefault("fused", True)
        self._known: list[_Known] | None = None
        super().__init__(params, **settings)

    def step(self, closure: Any = None) -> Any:
        """Move the parameters.

        Args:
            closure: As for :class:`torch.optim.AdamW`.
        """
        if self._is_watched():
            return _watched_move(self, closure)
        return self._move(closure)

    # Torch wraps what is not marked so; the wrapper takes as long as the kernel of a small model.
    step.hooked = True  # type: ignore[attr-defined]

    def _is_watched(self) -> bool:
        """Whether anything wants to know of the step: a hook, or a profiler that records."""
        return bool(
            torch.autograd._profiler_enabled()
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
        )

    def _move(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            if not self._step_on_what_is_known():
                WHOLE_STEP(self)
                self._known = self._learn()
        return loss

    def _step_on_what_is_known(self) -> bool:
        if self._known is None or getattr(self, "found_inf", None) is not None:
            return False
        gradients = [known.gradients(self.state) for known in self._known]
        if None in gradients:
            return False
        for group, known, found in zip(self.param_groups, self._known, gradients, strict=True):
            beta1, beta2 = group["betas"]
            known.step_counts.add_(1)
            torch._fused_adamw_(
                known.parameters,
                found,  # type: ignore[arg-type]
                known.means,
                known.squares,
                [],
                known.steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )
        return True

    def _learn(self) -> list[_Known] | None:
        """The lists that torch has just used; None where the next step is torch's again."""
        found = []
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved or not _is_plain(group, moved):
                return None
            memory = [self.state[parameter] for parameter in moved]
            counts = torch.stack([each["step"] for each in memory])
            steps = list(counts.unbind())
            for each, step in zip(memory, steps, strict=True):
                each["step"] = step
            found.append(
                _Known(
                    moved,
                    [p for p in group["params"] if p.grad is None],
                    [each["exp_avg"] for each in memory],
                    [each["exp_avg_sq"] for each in memory],
                    steps,
                    counts,
                )
            )
        return found

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Move further parameters."""
        self._known = None
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: Any) -> None:
        """Continue with a saved memory."""
        self._known = None
        super().load_state_dict(state_dict)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As a copy, or from another process: its tensors are others."""
        super().__setstate__({**state, "_known": None})


class _Known(NamedTuple):
    """What a step needs of a group, beside the gradients."""

    parameters: list[Tensor]
    others: list[Tensor]  # without a gradient
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]
    step_counts: Tensor  # all of the steps; they are views of it

    def gradients(self, state: Mapping[Tensor, Mapping[str, Any]]) -> list[Tensor] | None:
        """Those of the parameters; None where something is not as it was."""
        first = state.get(self.parameters[0])
        if first is None or first.get("exp_avg") is not self.means[0]:
            return None  # the memory was put back to another one
        found = []
        for parameter in self.parameters:
            gradient = parameter.grad
            if gradient is None:
                return None
            found.append(gradient)
        for parameter in self.others:
            if parameter.grad is not None:
                return None
        return found


# As torch does it for every other optimizer: hooks are called, the profiler is told.
_watched_move = Optimizer.profile_hook_step(LeanAdamW._move)


def _is_plain(group: Mapping[str, Any], moved: Sequence[Tensor]) -> bool:
    """Whether one kernel can move parameters, with the usual options of their group."""
    if not group["fused"] or any(group[option] for option in UNUSUAL):
        return False
    kinds = {(type(p.grad), p.grad.layout, p.dtype, p.device) for p in moved if p.grad is not None}
    gradient, layout, *_ = next(iter(kinds))
    return len(kinds) == 1 and gradient is Tensor and layout is torch.strided

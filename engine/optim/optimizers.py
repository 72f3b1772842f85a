"""Optimisers, with biases and norms kept out of weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from engine.optim.layer_decay import layer_scales
from engine.optim.name_patterns import matches, refuse_unmatched
from engine.optim.names import OPTIMIZERS


@dataclass(frozen=True)
class GroupSettings:
    """What some of the parameters get in place of the usual.

    Args:
        match: A pattern, or several (:func:`engine.optim.matches`).
        lr_scale: Share of the learning rate; also below a schedule, which keeps the ratio.
        weight_decay: None keeps the usual one (none for biases and norms).
    """

    match: str | Sequence[str]
    lr_scale: float = 1.0
    weight_decay: float | None = None

    @property
    def patterns(self) -> list[str]:
        """The patterns, one or several."""
        return [self.match] if isinstance(self.match, str) else list(self.match)


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    lr: float = 1.0,
    groups: Sequence[GroupSettings] = (),
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Matrices with weight decay; biases, norms and other vectors without; rates by name or depth.

    Decaying a norm's scale or a bias pulls it to zero for no gain (Loshchilov and Hutter 2019
    decay weights; the split is common practice since BERT).

    Args:
        model: Only parameters that ask for gradients are listed.
        weight_decay: For matrices.
        lr: The learning rate of what has no other.
        groups: Other settings for some; the first that matches a parameter counts.
        layer_decay: Lower rates toward the input (:func:`engine.optim.layer_decay.layer_scales`);
            multiplies with the share of ``groups``.

    Returns:
        Groups as an optimiser takes them, with the key ``name`` (``decay``, ``no_decay``, and
        those with ``_x<share>`` where the rate differs), the full rate first.

    Raises:
        UsageError: A pattern matches nothing, or the model has no layers to tell apart.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    patterns = [pattern for group in groups for pattern in group.patterns]
    refuse_unmatched(patterns, [name for name, _ in named], model, "optimizer.groups")
    scales = {} if layer_decay is None else layer_scales(model, layer_decay)
    found: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in named:
        scale = scales.get(name, 1.0)
        decayed = weight_decay if parameter.ndim > 1 else 0.0
        for group in groups:
            if any(matches(pattern, name) for pattern in group.patterns):
                scale *= group.lr_scale
                decayed = decayed if group.weight_decay is None else group.weight_decay
                break
        found.setdefault((scale, decayed), []).append(parameter)
    order = sorted(found, reverse=True)
    rates = _names(order)
    return [
        {"name": name, "params": found[key], "lr": lr * key[0], "weight_decay": key[1]}
        for name, key in zip(rates, order, strict=True)
    ]


def _names(keys: Sequence[tuple[float, float]]) -> list[str]:
    names: list[str] = []
    for scale, decay in keys:
        name = "decay" if decay else "no_decay"
        name = name if scale == 1 else f"{name}_x{scale:.4g}"
        taken = sum(other == name or other.startswith(f"{name}_wd") for other in names)
        names.append(f"{name}_wd{decay:g}" if taken else name)
    return names


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
    groups: Sequence[GroupSettings] = (),
    layer_decay: float | None = None,
    **params: Any,
) -> Optimizer:
    """Build an optimiser of ``OPTIMIZERS`` (or any class) over :func:`parameter_groups`.

    Args:
        model: Its trainable parameters are optimised.
        name: A key of ``OPTIMIZERS``, or an optimiser class.
        lr: The learning rate at full height.
        weight_decay: For matrices; vectors get none.
        groups: Other settings for some parameters.
        layer_decay: Lower rates toward the input.
        **params: Passed to the optimiser's constructor. AdamW is built ``fused`` unless told
            otherwise: one kernel for all parameters of a group.

    Example:
        >>> build_optimizer(nn.Linear(2, 1), "sgd", lr=0.1, momentum=0.9).__class__.__name__
        'SGD'
    """
    cls = resolve_name(OPTIMIZERS[name]) if isinstance(name, str) else name
    if cls is AdamW:
        params.setdefault("fused", True)
    listed = parameter_groups(model, weight_decay, lr, groups, layer_decay)
    return cls(listed, lr=lr, **params)  # type: ignore[call-arg]

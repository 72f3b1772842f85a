"""Optimizers and their parameter groups: weight decay, rates by name and by depth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from datasets.errors import UsageError, nearest
from engine.optim.names import OPTIMIZERS


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern names a parameter or module, or a module that contains it.

    The wildcards are ``*``, ``?`` and ``[...]``, where ``*`` matches dots too.
    """
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def refuse_unmatched(
    patterns: Iterable[str], names: Iterable[str], model: nn.Module, key: str
) -> None:
    """UsageError, beginning with ``key``, for a pattern that matches none of the names."""
    names = list(names)
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            modules = [name for name, _ in model.named_modules() if name]
            choices = nearest(pattern, dict.fromkeys([*modules, *names]))
            nothing = "no parameter and no module with parameters"
            raise UsageError(f"{key}: {nothing} is called '{pattern}'{choices}")


FEWEST_LAYERS = 2


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Each parameter's factor of the learning rate, by its depth (Clark et al. 2020, "ELECTRA").

    A stack is an ``nn.ModuleList`` of at least two blocks that contain modules. Of n blocks, block
    i = 0 .. n - 1 has the factor ``decay ** (n - i)``. The stack owner's own parameters (positions)
    and modules before the stack (embeddings) have ``decay ** (n + 1)``; all else has 1 and is not
    returned. Of nested stacks only the outer one counts. UsageError without a stack.
    """
    if not 0 < decay <= 1:
        raise UsageError(f"optimizer.layer_decay must be above 0 and at most 1, not {decay}")
    scales: dict[str, float] = {}
    stacks: list[str] = []
    for owner_name, owner in model.named_modules():
        if any(f"{owner_name}.".startswith(f"{stack}.") for stack in stacks):
            continue
        children = list(owner.named_children())
        for place, (name, child) in enumerate(children):
            if not _is_stack(child):
                continue
            path = f"{owner_name}.{name}".lstrip(".")
            stacks.append(path)
            below = decay ** (len(child) + 1)
            lower = [below_name for below_name, _ in children[:place]]
            for parameter, _ in owner.named_parameters():
                top, _, rest = parameter.partition(".")
                full = f"{owner_name}.{parameter}".lstrip(".")
                if top == name:
                    scales[full] = decay ** (len(child) - int(rest.partition(".")[0]))
                elif top in lower or not rest:
                    scales.setdefault(full, below)
    if not stacks:
        raise UsageError(
            f"optimizer.layer_decay: {type(model).__name__} has no nn.ModuleList of two or more "
            "blocks whose depth could count; name its parts in optimizer.groups instead"
        )
    return scales


def _is_stack(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.ModuleList)
        and len(module) >= FEWEST_LAYERS
        and all(any(True for _ in block.children()) for block in module)
    )


@dataclass(frozen=True)
class GroupSettings:
    """Settings of the parameters that match a pattern, or one of several (:func:`matches`).

    ``weight_decay`` None is the default (none for biases and norms).
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
    """Parameter groups: matrices with weight decay, vectors without; rates by name or depth.

    Of ``groups`` the first that matches a parameter counts; ``layer_decay`` multiplies with its
    factor. Names are ``decay`` and ``no_decay``, with ``_x<factor>`` if the rate differs.
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
    """The largest learning rate among the groups."""
    return max(float(group["lr"]) for group in optimizer.param_groups)


def scale_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Multiply each group's rate, and the initial rate of a schedule, so that the change lasts."""
    for group in optimizer.param_groups:
        for key in group.keys() & {"lr", "initial_lr"}:
            if isinstance(group[key], Tensor):
                group[key].mul_(factor)
            else:
                group[key] *= factor


def leaves_steps_out(optimizer: Optimizer) -> bool:
    """Whether a step does nothing on the device if ``optimizer.found_inf`` holds 1 (fused)."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False)) and all(
        group.get("fused") for group in optimizer.param_groups
    )


@torch.no_grad()
def fill_momentum(optimizer: Optimizer) -> None:
    """Give a fused SGD's parameters a momentum of zero.

    Torch allocates it in a parameter's first step, uninitialised: if that step is left out, the
    next would read arbitrary memory. It also fails if only some have one, as after unfreezing.
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
    """Build an optimizer of ``OPTIMIZERS``, or any class, over :func:`parameter_groups`.

    Further parameters are the optimizer's. AdamW is ``fused`` by default.
    """
    cls = resolve_name(OPTIMIZERS[name]) if isinstance(name, str) else name
    if cls is AdamW:
        params.setdefault("fused", True)
    listed = parameter_groups(model, weight_decay, lr, groups, layer_decay)
    return cls(listed, lr=lr, **params)  # type: ignore[call-arg]

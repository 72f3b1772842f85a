"""Layer-wise learning rates: the nearer to the input, the lower."""

from __future__ import annotations

from torch import nn

from datasets.errors import UsageError

# A list of one block has no layers to tell apart.
FEWEST_LAYERS = 2


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Each parameter's share of the learning rate, by its depth (Clark et al. 2020, "ELECTRA").

    A stack is an ``nn.ModuleList`` of at least two blocks that are made of modules themselves.
    With n blocks, block i = 0 .. n - 1 has the share ``decay ** (n - i)``. What the stack's owner
    holds of its own (positions) or had before the stack (embeddings) is below the first block and
    has ``decay ** (n + 1)``; all else is above, or beside, and has 1. Of a stack within another's
    block only the outer one counts.

    Args:
        model: Whose parameters.
        decay: The factor from one layer to the next below; above 0, at most 1.

    Returns:
        Parameter name -> share, for those below 1.

    Raises:
        UsageError: The model has no such stack, or ``decay`` is out of range.

    Example:
        >>> blocks = nn.ModuleList(nn.Sequential(nn.Linear(2, 2)) for _ in range(2))
        >>> model = nn.ModuleDict({"embed": nn.Linear(2, 2), "blocks": blocks})
        >>> {n: s for n, s in layer_scales(model, 0.5).items() if n.endswith("bias")}
        {'embed.bias': 0.125, 'blocks.0.0.bias': 0.25, 'blocks.1.0.bias': 0.5}
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

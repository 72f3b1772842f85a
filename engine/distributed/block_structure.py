"""The blocks that a model repeats: what is compiled or shared piece by piece."""

from __future__ import annotations

from collections import Counter

from torch import nn


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The modules of which several of one class stand in a list; outer ones before inner ones.

    Example:
        >>> layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()])
        >>> len(repeated_blocks(nn.Sequential(layers)))
        2
    """
    found = []
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            counts = Counter(type(child) for child in module)
            found += [child for child in module if counts[type(child)] > 1]
    return found

"""How large a model is, and where its parameters are."""

from __future__ import annotations

from typing import Any

from torch import nn

BYTES_IN_MB = 10**6
# Parameters that belong to the model itself, not to one of its modules.
OWN = "(own)"


def summarise_model(model: nn.Module) -> dict[str, Any]:
    """Count parameters; one that several modules share is counted once, in the first of them.

    Args:
        model: As it is: frozen parameters count, but not as trainable.

    Returns:
        ``model`` (its class), ``parameters``, ``trainable``, ``size_mb`` (parameters and buffers,
        in 10^6 bytes) and ``modules``: name of each top-level module -> ``parameters``,
        ``trainable``.

    Example:
        >>> summary = summarise_model(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
        >>> summary["parameters"], summary["modules"]["0"]["parameters"]
        (13, 9)
    """
    modules: dict[str, dict[str, int]] = {}
    for name, parameter in model.named_parameters():
        top = name.partition(".")[0] if "." in name else OWN
        counts = modules.setdefault(top, {"parameters": 0, "trainable": 0})
        counts["parameters"] += parameter.numel()
        counts["trainable"] += parameter.numel() * parameter.requires_grad
    held = [*model.parameters(), *model.buffers()]
    return {
        "model": type(model).__name__,
        "parameters": sum(counts["parameters"] for counts in modules.values()),
        "trainable": sum(counts["trainable"] for counts in modules.values()),
        "size_mb": sum(t.numel() * t.element_size() for t in held) / BYTES_IN_MB,
        "modules": modules,
    }

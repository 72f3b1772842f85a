"""A model in a file of its own: its weights, and what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from datasets.errors import UsageError
from engine.checkpointing import load_checkpoint, save_checkpoint


def save_weights(model: nn.Module, path: Path, **others: Any) -> None:
    """Write a model's weights; a file that stood there is replaced when the new one is whole.

    Args:
        model: Its state holds tensors and plain values.
        path: Folders that it lacks are made. It opens with ``torch.load(weights_only=True)``.
        **others: Plain values that stand beside the weights.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    meta = {"model": {"name": type(model).__name__}}
    save_checkpoint(path, {"model": dict(model.state_dict()), **others}, meta)


def load_weights(model: nn.Module, path: Path) -> dict[str, Any]:
    """Take the weights of a file that :func:`save_weights` or a checkpoint handler wrote.

    Args:
        model: Stays as it was where the file is refused.
        path: The file; nothing in it can run code.

    Returns:
        What the file holds beside the weights.

    Raises:
        UsageError: It is missing, damaged, or another model's.
    """
    content = load_checkpoint(path)
    saved, own = content["states"].get("model", {}), model.state_dict()
    wrong = [
        f"'{name}' ({_shape(saved, name)} there, {_shape(own, name)} here)"
        for name in dict.fromkeys([*own, *saved])
        if _shape(saved, name) != _shape(own, name)
    ]
    if wrong:
        told = content["meta"].get("model")
        whose = f" ({told['name']})" if isinstance(told, Mapping) and "name" in told else ""
        raise UsageError(
            f"{path} holds another model{whose} than this {type(model).__name__}: "
            f"{len(wrong)} tensors differ, such as {wrong[0]}"
        )
    model.load_state_dict(saved)
    return {name: state for name, state in content["states"].items() if name != "model"}


def _shape(state: Mapping[str, Any], name: str) -> str:
    return str(list(getattr(state[name], "shape", ()))) if name in state else "none"

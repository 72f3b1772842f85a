"""The weights that a run is measured with: those of its best checkpoint, averaged ones if any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from datasets.errors import UsageError
from engine.checkpointing import broken_weight, load_checkpoint

if TYPE_CHECKING:
    from engine.protocols import Stateful
    from engine.trainer import Trainer
    from experiments.builders import RunHandlers


def best_states(run_dir: Path, model: nn.Module) -> dict[str, Any] | None:
    """The states of the best checkpoint; None where nothing was scored: the live weights count.

    That is with top-k off, or where the metric was undefined.
    """
    best = run_dir / "checkpoints" / "best.pt"
    if best.is_file():
        states: dict[str, Any] = load_checkpoint(best)["states"]
        return states
    refuse_broken(model, "the training diverged", "and there is no earlier checkpoint")
    return None


def refuse_broken(model: nn.Module, what: str, why: str) -> None:
    """Raise UsageError if a weight is not finite."""
    broken = broken_weight(model)
    if broken is not None:
        raise UsageError(
            f"{what}: weight '{broken}' is not finite {why}; lower optimizer.lr or add the "
            "handler nan_guard"
        )


def averaged_weights(states: Mapping[str, Any]) -> dict[str, Any]:
    """The model's weights in a checkpoint, the averaged ones where some handler averaged them."""
    weights = states["model"]
    for state in states.values():
        average = state.get("average") if isinstance(state, dict) else None
        if isinstance(average, dict):
            weights = {**weights, **average, **state.get("statistics", {})}
    return dict(weights)


def measured(trainer: Trainer, handlers: RunHandlers) -> list[tuple[str, Stateful]]:
    """What is measured, by its names in a checkpoint: the model, and averaged weights."""
    things = (trainer.model, handlers.averager)
    return [(name, thing) for name, thing in trainer.stateful.items() if thing in things]


def load_selected(run_dir: Path, trainer: Trainer, handlers: RunHandlers) -> RunHandlers:
    """Load the best checkpoint; returns the handlers, without an averager that it had not yet."""
    states = best_states(run_dir, trainer.model)
    if states is None:
        return handlers
    averager = handlers.averager
    names = [name for name, thing in trainer.stateful.items() if thing is averager]
    if averager is None:
        states["model"] = averaged_weights(states)
    elif names[0] not in states:  # the best epoch was scored before weights were averaged
        handlers = replace(handlers, averager=None)
    for name, thing in measured(trainer, handlers):
        thing.load_state_dict(states[name])
    return handlers

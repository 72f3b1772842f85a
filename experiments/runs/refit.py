"""A second training, on the training and validation sets, as long as up to the selected epoch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ignite.engine import Events
from torch import nn

from datasets.errors import UsageError
from engine.checkpointing import (
    CheckpointError,
    broken_weight,
    load_checkpoint,
    newest_whole_checkpoint,
)
from engine.distributed import world_size
from engine.events import Phase
from engine.metrics import LAST_EPOCH
from experiments.config import Config, check_config

if TYPE_CHECKING:
    from engine.protocols import Stateful
    from engine.trainer import Trainer
    from experiments.builders import Data, RunHandlers

# In the run's folder; it has checkpoints, log and tables of its own.
REFIT_FOLDER = "refit"
FITTED_ON = ("train", "val")
# A refit has no use for these, and needs no validation for them.
REPLACED = ("checkpoint", "trainer.early_stopping")


class FinalTask(NamedTuple):
    """A training on all samples: its folder, and the model's card.

    ``member_weights`` are of a model with members, which a validation set would choose.
    """

    config: Config
    folder: Path
    epochs: int
    card: str
    member_weights: Sequence[float] = ()


class FinalTrainingError(UsageError):
    """Settings that need a validation set, or a training on all samples that diverged."""


@dataclass(frozen=True)
class Selected:
    """The selected weights: their epochs, metrics on the test set, and data without the refit's."""

    epochs: int
    data: Data
    test: Mapping[str, float]


def check_refit(config: Config, trainer: Trainer) -> None:
    """Refuse a refit that something else than the selection needs the validation set for."""
    if not config.trainer.refit:
        return
    if world_size() > 1:
        raise UsageError("trainer.refit is by one process; leave it out, or start one process")
    for user, name in trainer.monitors:
        if name.startswith("val/") and user not in REPLACED:
            raise UsageError(
                f"{user}.monitor: '{name}' is not measured in a refit, which trains on the "
                "validation set; follow a train/ metric, or set trainer.refit to false"
            )


def refit_config(config: Config) -> Config:
    """The settings of a refit: those of the run, derived ones too, without a selection."""
    values = config.resolved()
    values["trainer"]["early_stopping"] = None
    values["checkpoint"] |= {"monitor": LAST_EPOCH, "mode": "max", "save_top_k": 0}
    values["report"]["enabled"] = False
    return check_config(values)


def selected_epoch(run_dir: Path, trainer: Trainer) -> int:
    """The epoch whose weights are selected; the last one where none was scored."""
    states = best_states(run_dir, trainer.model)
    if states is None:
        return trainer.epochs_done()
    saved = states["trainer"]
    return int(saved["iteration"] // saved["epoch_length"])


def begin_refit(
    trainer: Trainer,
    folder: Path,
    meta: Mapping[str, Any],
    epochs: int,
    samples: str = "the training and validation sets",
) -> None:
    """Restore a cut refit of the same training, or remove another one; stop after ``epochs``."""
    try:
        content = newest_whole_checkpoint(folder / "checkpoints")[1]
    except CheckpointError:  # it was cut before its first, or there is none
        content = {"meta": None}
    if content["meta"] == meta:
        trainer.restore(content["states"])
    elif folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    # The schedule is that of the run, which ends here.
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=epochs), trainer.terminate, phase=Phase.DECIDE
    )
    begun = f", continued after {trainer.epochs_done()}" if trainer.state.iteration else ""
    plural = "" if epochs == 1 else "s"
    message = f"refit on {samples} for {epochs} epoch{plural}{begun}"
    trainer.add_event_handler(
        Events.STARTED, lambda: trainer.log_event("refit", message=message), phase=Phase.DECIDE
    )


def about_refit(data: Data) -> str:
    """One line on what a refit will do."""
    samples = int(np.isin(data.split, FITTED_ON).sum())
    return (
        f"refit: after the selection the model is trained anew on the {samples} samples of the "
        "training and validation sets, for as many epochs as up to the selected one"
    )


def best_states(run_dir: Path, model: nn.Module) -> dict[str, Any] | None:
    """The best checkpoint's states; None where nothing was scored: the live weights count."""
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
        weights = states["model"]
        for state in states.values():  # some handler averaged them before
            average = state.get("average") if isinstance(state, dict) else None
            if isinstance(average, dict):
                weights = {**weights, **average, **state.get("statistics", {})}
        states["model"] = dict(weights)
    elif names[0] not in states:  # the best epoch was scored before weights were averaged
        handlers = replace(handlers, averager=None)
    for name, thing in measured(trainer, handlers):
        thing.load_state_dict(states[name])
    return handlers

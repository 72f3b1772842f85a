"""Default training without a configuration, and a model's file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from torch import nn

from datasets.errors import UsageError
from engine.checkpointing import load_checkpoint, preserve_rng_state, save_checkpoint
from engine.evaluator import Evaluator
from engine.events import Phase
from engine.precision import best_device
from engine.trainer import Trainer
from experiments.builders import attach_training, attach_validation, build_configured_optimizer
from experiments.config import (
    Config,
    EarlyStoppingConfig,
    OptimizerConfig,
    SchedulerConfig,
    TrainerConfig,
)
from experiments.enhanced_trainer.any_loader import AnyLoader
from experiments.enhanced_trainer.learning_task import LearningTask
from handlers.checkpoint import Checkpoint
from handlers.progress import Progress
from handlers.run_log import RunLog
from handlers.training_curves import TrainingCurves

# The rate is halved when half of the usual patience has passed in vain.
PLATEAU: dict[str, Any] = {"mode": "min", "factor": 0.5, "patience": 5}


class History:
    """Keeps what each epoch measured."""

    # With the log: before anything of this epoch is saved, after all of it is measured.
    phase = Phase.RECORD

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs."""
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Take down the epoch's metrics."""
        self._rows.append({"epoch": trainer.state.epoch, **trainer.state.metrics})

    def columns(self) -> dict[str, list[float]]:
        """``epoch`` and each metric -> one value an epoch, NaN where it was not measured."""
        names = dict.fromkeys(name for row in self._rows for name in row)
        return {n: [float(row.get(n, float("nan"))) for row in self._rows] for n in names}


def device_or_cpu(name: str) -> torch.device:
    """The device of that name; where there is no GPU, say so in a line and take the CPU."""
    try:
        return best_device(name)
    except ValueError as error:
        if not name.startswith("cuda") or torch.cuda.is_available():
            raise UsageError(f"device: {error}") from error
        print(f"device '{name}': no CUDA device is available here, using the CPU", file=sys.stderr)
        return torch.device("cpu")


def build_default_trainer(
    evaluator: Evaluator,
    task: LearningTask,
    lr: float,
    weight_decay: float,
    plateau_of: str = "val/loss",
    run_dir: Path | None = None,
    val_loader: AnyLoader | None = None,
    patience: int | None = None,
    save_best: bool = False,
    curves: Path | None = None,
) -> tuple[Trainer, list[Any]]:
    """A trainer of an evaluator's model, and its handlers; without a folder there is no log."""
    followed: dict[str, Any] = {"monitor": task.monitor, "mode": task.mode}
    early = EarlyStoppingConfig.model_construct(**followed, patience=patience)
    # Not validated: the optimizer and the handlers check a caller's values, by their own names.
    config = Config.model_construct(
        optimizer=OptimizerConfig.model_construct(lr=lr, weight_decay=weight_decay),
        trainer=TrainerConfig.model_construct(early_stopping=None if patience is None else early),
        lr_scheduler=SchedulerConfig(name="plateau", params={"monitor": plateau_of, **PLATEAU}),
    )
    with preserve_rng_state():  # the optimizer is tried on a weight of its own
        optimizer = build_configured_optimizer(config.optimizer, evaluator.model)
    trainer = Trainer(evaluator.model, optimizer, evaluator.loss, evaluator.device, run_dir)
    attached: list[Any] = []

    def attach(cls: Any, key: str = "", **params: Any) -> None:
        attached.append(cls(**params))
        trainer.attach(attached[-1])

    if run_dir is not None:
        attach(RunLog, **followed)
    attach(Progress)
    if save_best:
        attach(Checkpoint, **followed, save_top_k=0, save_last=False)
    if curves is not None:
        attach(TrainingCurves, path=curves)
    attach_training(config, trainer, evaluator, task.loss_terms, attach)
    attach_validation(config, trainer, evaluator, val_loader, task.loss_terms, attach)
    return trainer, attached


def save_weights(model: nn.Module, path: Path, **others: Any) -> None:
    """Write a model's weights, and ``others`` of plain types; missing folders are made.

    A file that stood there is replaced when the new one is whole.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    meta = {"model": {"name": type(model).__name__}}
    save_checkpoint(path, {"model": dict(model.state_dict()), **others}, meta)


def load_weights(model: nn.Module, path: Path) -> dict[str, Any]:
    """Take the weights of a file that :func:`save_weights` or a checkpoint handler wrote.

    A model that it does not fit stays as it was. Returns what the file holds beside the weights.
    """
    content = load_checkpoint(path)
    saved, own = content["states"].get("model", {}), model.state_dict()
    wrong = []
    for name in dict.fromkeys([*own, *saved]):
        there, here = _shape(saved, name), _shape(own, name)
        if there != here:
            wrong.append(f"'{name}' ({there} there, {here} here)")
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

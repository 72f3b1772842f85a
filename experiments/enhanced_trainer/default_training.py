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
from engine.checkpointing import load_checkpoint, save_checkpoint
from engine.evaluator import Evaluator
from engine.events import Phase
from engine.metrics import EpochMetrics
from engine.optim import build_optimizer
from engine.precision import best_device
from engine.trainer import Trainer
from experiments.enhanced_trainer.any_loader import AnyLoader
from experiments.enhanced_trainer.learning_task import LearningTask
from handlers.checkpoint import Checkpoint
from handlers.early_stopping import EarlyStopping
from handlers.gradient_clipping import GradientClipping
from handlers.lr_schedule import LRSchedule
from handlers.progress import Progress
from handlers.run_log import RunLog
from handlers.training_curves import TrainingCurves
from handlers.validation import Validation

MAX_NORM = 1.0
# The rate is halved when half of the usual patience has passed in vain.
PLATEAU: dict[str, Any] = {"monitor": "val/loss", "mode": "min", "factor": 0.5, "patience": 5}


class History:
    """Keeps what each epoch measured.

    Example::

        history = History()
        trainer.attach(history)
        trainer.fit(loader, max_epochs=2)
        history.columns()["epoch"]  # [1.0, 2.0]
    """

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
    """The device of that name; where there is no GPU, say so in a line and take the CPU.

    Raises:
        UsageError: No device can be called so.

    Example:
        >>> device_or_cpu("cpu")
        device(type='cpu')
    """
    try:
        return best_device(name)
    except ValueError as error:
        if not name.startswith("cuda") or torch.cuda.is_available():
            raise UsageError(f"device: {error}") from error
        print(f"device '{name}': no CUDA device is available here, using the CPU", file=sys.stderr)
        return torch.device("cpu")


def make_trainer(
    evaluator: Evaluator,
    task: LearningTask,
    lr: float,
    weight_decay: float,
    run_dir: Path | None,
) -> Trainer:
    """A trainer with AdamW for an evaluator's model, with training metrics."""
    optimizer = build_optimizer(evaluator.model, lr=lr, weight_decay=weight_decay)
    trainer = Trainer(evaluator.model, optimizer, task.loss, evaluator.device, run_dir)
    asked = evaluator.metrics
    measured = EpochMetrics(
        prefix="train/", task=task.name, restore=asked.restore, targets=asked.targets
    )
    trainer.provide_metrics(*measured.metric_names(task.loss_terms))
    measured.attach(trainer)
    return trainer


def step_handlers(monitor: str = PLATEAU["monitor"]) -> list[Any]:
    """Progress, clipping and the plateau schedule: what any epoch of training has."""
    schedule = LRSchedule("plateau", **{**PLATEAU, "monitor": monitor})
    return [Progress(), GradientClipping(MAX_NORM), schedule]


def default_handlers(
    evaluator: Evaluator,
    task: LearningTask,
    val_loader: AnyLoader,
    patience: int | None,
    save_best: bool,
    curves: Path | None,
) -> list[Any]:
    """Clipping, a plateau schedule, validation, early stopping, the best checkpoint, and a log."""
    judged: dict[str, Any] = {"monitor": task.monitor, "mode": task.mode}
    handlers: list[Any] = [
        RunLog(**judged),
        *step_handlers(),
        Validation(evaluator, val_loader, loss_terms=task.loss_terms),
    ]
    if patience is not None:
        handlers.append(EarlyStopping(**judged, patience=patience))
    if save_best:
        handlers.append(Checkpoint(**judged, save_top_k=0, save_last=False))
    if curves is not None:
        handlers.append(TrainingCurves(curves))
    return handlers


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

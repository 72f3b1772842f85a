"""Sound defaults for a training without a configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from datasets.errors import UsageError
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
    """A trainer with AdamW for an evaluator's model, with training metrics.

    Args:
        evaluator: Its model is trained, where it lives.
        task: Its loss is followed.
        lr: The full learning rate.
        weight_decay: Of matrices.
        run_dir: Where the handlers write; None where none does.
    """
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
    """Progress, clipping and the plateau schedule: what any epoch of training has.

    Args:
        monitor: What the schedule follows, the smaller the better.
    """
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
    """Clipping, a plateau schedule, validation, early stopping, the best checkpoint, and a log.

    Args:
        evaluator: Measures the validation side.
        task: Says what to monitor.
        val_loader: Yields the validation side.
        patience: Of early stopping; None for none.
        save_best: Whether to keep the best checkpoint.
        curves: The page of training curves; None for none.
    """
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

"""This project's engine on the tiny task: bare, and with all that ``tft_baseline`` attaches."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Events
from torch import Tensor, nn

from engine import Evaluator, Phase, Trainer, build_optimizer
from engine.losses import CrossEntropy
from engine.metrics import EpochMetrics
from experiments.benchmarks.tiny_task import Mark, TinyTask
from experiments.builders import build_handlers
from experiments.config import Config, load_config


class CovariateModel(nn.Module):
    """The tiny MLP under this project's contract: covariates in, a dict of outputs."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, spectra: Tensor, mask: Tensor, tabular: Tensor) -> dict[str, Tensor]:
        """Logits [B, 2] of covariates [B, 16]."""
        return {"logits": self.mlp(tabular)}


def baseline_config(task: TinyTask) -> Config:
    """``tft_baseline`` with the task's settings, and with EMA, which the other loops have too."""
    changes = {
        "trainer.max_epochs": task.epochs,
        "trainer.grad_clip": task.max_norm,
        "ema.decay": task.ema_decay,
        "ema.warmup": "false",
        "lr_scheduler.warmup_steps": 0,
        "trainer.early_stopping": "{patience: 10}",
    }
    return load_config("tft_baseline", [(key, str(value)) for key, value in changes.items()])


def minimal(task: TinyTask, folder: Path, mark: Mark, fused: bool = True) -> nn.Module:
    """The trainer alone.

    Args:
        task: What to train on.
        folder: Nothing is written.
        mark: Told of each epoch's start and of the end.
        fused: AdamW's option; this project's default is True.
    """
    trainer = _trainer(task, folder, mark, fused)
    trainer.fit(task.train, task.epochs)
    return trainer.model.mlp  # type: ignore[return-value]


def full(task: TinyTask, folder: Path, mark: Mark, fused: bool = True) -> nn.Module:
    """The trainer with every handler of ``tft_baseline``.

    Args:
        task: What to train on.
        folder: The run's folder.
        mark: Told of each epoch's start and of the end.
        fused: AdamW's option; this project's default is True.
    """
    trainer, config = _trainer(task, folder, mark, fused), baseline_config(task)
    evaluator = Evaluator(trainer.model, trainer.loss, EpochMetrics(config.metric_names))
    handlers = build_handlers(config, trainer, evaluator, task.val, ["total_loss"])
    try:
        trainer.fit(task.train, task.epochs)
    finally:
        handlers.close()
    return trainer.model.mlp  # type: ignore[return-value]


def _trainer(task: TinyTask, folder: Path, mark: Mark, fused: bool) -> Trainer:
    model = CovariateModel(task.make_model())
    optimizer = build_optimizer(
        model, lr=task.lr, weight_decay=task.weight_decay, fused=fused or None
    )
    trainer = Trainer(model, optimizer, CrossEntropy(), run_dir=folder)
    # Attached before anything else, so that an epoch lasts until all handlers have ended it.
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: mark(), phase=Phase.PREPARE)
    trainer.add_event_handler(Events.COMPLETED, lambda _: mark(), phase=Phase.PREPARE)
    return trainer

"""Shared parts of the loggers of external services (W&B, MLflow)."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

from datasets.errors import UsageError
from engine.optim import learning_rate
from engine.trainer import Trainer


def require_package(package: str) -> None:
    """Raise UsageError, with the pip command, if a package is missing; it is not imported."""
    found = importlib.util.find_spec(package)
    # Without an origin it is a folder of that name, such as these loggers leave behind.
    if found is None or found.origin is None:
        raise UsageError(
            f"the handler {package} needs the package of that name: pip install {package}"
        )


def describe_run(trainer: Trainer) -> dict[str, Any]:
    """A run's main settings in plain values, when it begins."""
    model, loss, state = trainer.model, trainer.loss, trainer.state
    return {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
        "optimizer": type(trainer.optimizer).__name__,
        "lr": max(float(g.get("initial_lr", g["lr"])) for g in trainer.optimizer.param_groups),
        "weight_decay": max(
            float(g.get("weight_decay", 0)) for g in trainer.optimizer.param_groups
        ),
        "precision": getattr(trainer.precision, "precision", "fp32"),
        "device": trainer.device.type,
        "max_epochs": state.max_epochs,
        "batches_per_epoch": state.epoch_length,
        "accumulate_steps": state.accumulate_steps,
    }


def epoch_values(trainer: Trainer) -> dict[str, float]:
    """An epoch's metrics and learning rate, without NaN."""
    values = {"lr": learning_rate(trainer.optimizer), **trainer.state.metrics}
    return {name: float(value) for name, value in values.items() if not math.isnan(value)}

"""The base of the loggers of external services (W&B, MLflow)."""

from __future__ import annotations

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from datasets.errors import UsageError
from engine.checkpointing import preserve_rng_state
from engine.events import Phase
from engine.optim import learning_rate
from engine.protocols import SavedAttributes

if TYPE_CHECKING:
    from engine.trainer import Trainer


def require_package(package: str) -> None:
    """Raise UsageError, with the pip command, if a package is missing; it is not imported."""
    found = importlib.util.find_spec(package)
    # Without an origin it is a folder of that name, such as these loggers leave behind.
    if found is None or found.origin is None:
        needed = f"the handler {package} needs the package of that name"
        raise UsageError(f"{needed}: pip install {package}")


def describe_run(trainer: Trainer) -> dict[str, Any]:
    """A run's main settings in plain values, when it begins."""
    model, loss, state = trainer.model, trainer.loss, trainer.state
    groups = trainer.optimizer.param_groups
    return {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
        "optimizer": type(trainer.optimizer).__name__,
        "lr": max(float(g.get("initial_lr", g["lr"])) for g in groups),
        "weight_decay": max(float(g.get("weight_decay", 0)) for g in groups),
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


class ExternalLogger(SavedAttributes, ABC):
    """Base of handlers that log to a service; a resumed run continues its run there."""

    phase = Phase.RECORD
    saved = ("_run_id",)
    first_process_only = True
    package: str

    def __init__(self, name: str | None, config: Mapping[str, Any] | None) -> None:
        self.name, self.config = name, dict(config or {})
        self._run_id: str | None = None
        self._logger: Any = None

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's start and end and to the ends of epochs."""
        require_package(self.package)
        if self.name is None and trainer.run_dir is not None:
            self.name = Path(trainer.run_dir).name
        trainer.register_state(self.package, self)
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, trainer: Trainer) -> None:
        """Begin the service's run, or continue it; UsageError if the service refuses."""
        if not trainer.should_terminate:  # else nothing will be logged
            with preserve_rng_state():
                self._begin({**describe_run(trainer), **self.config})

    def finish(self) -> None:
        """Mark the service's run as finished."""
        self._end(failed=False)

    def close(self) -> None:
        """Mark the service's run as failed, unless it has ended; call it after an exception."""
        self._end(failed=True)

    def _end(self, failed: bool) -> None:
        logger, self._logger = self._logger, None
        if logger is not None:
            self._close(logger, failed)

    @abstractmethod
    def _begin(self, description: dict[str, Any]) -> None:
        """Set ``_logger`` and ``_run_id``."""

    @abstractmethod
    def _close(self, logger: Any, failed: bool) -> None:
        """End the service's run."""

    @abstractmethod
    def __call__(self, trainer: Trainer) -> None:
        """Log one epoch."""

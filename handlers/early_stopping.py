"""Stopping when a metric no longer improves."""

import math

from ignite.engine import Events

from datasets.specs import require_number, require_whole
from engine.events import Phase
from engine.metrics import Monitor
from engine.protocols import SavedAttributes
from engine.trainer import Trainer


class EarlyStopping(SavedAttributes):
    """Ends the training after ``patience`` epochs without an improvement.

    An epoch improves when its value beats the best by more than ``min_delta`` (with ``relative`` a
    share of the best); the best is the value of the last such epoch, so that small gains add up.
    NaN is no improvement; an epoch without the metric, up to ``start_epoch``, or within
    ``cooldown`` epochs after an improvement does not count. A resumed run that had stopped early
    trains no further, unless its patience was raised.
    """

    phase = Phase.DECIDE
    saved = ("best", "best_epoch", "bad_epochs", "_cooldown_left")

    def __init__(
        self,
        monitor: str = "val/loss",
        mode: str | None = None,
        patience: int = 10,
        cooldown: int = 0,
        min_delta: float = 0.0,
        relative: bool = False,
        start_epoch: int = 0,
    ) -> None:
        self.patience = require_whole("early_stopping.patience", patience, 1)
        self.cooldown = require_whole("early_stopping.cooldown", cooldown, 0)
        self.start_epoch = require_whole("early_stopping.start_epoch", start_epoch, 0)
        self.min_delta = require_number("early_stopping.min_delta", min_delta)
        self.relative = relative
        self.monitor = Monitor(monitor, mode, "early_stopping")
        self.best: float | None = None
        self.best_epoch = 0
        self.bad_epochs = 0
        self._cooldown_left = 0

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs, and to the start of a resumed run."""
        self.monitor.attach(trainer)
        trainer.register_state("early_stopping", self)
        trainer.add_event_handler(Events.STARTED, self.stay_stopped)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)

    def stay_stopped(self, trainer: Trainer) -> None:
        """Do not train on in a run that had ended early."""
        if self.bad_epochs >= self.patience:
            trainer.log_event(
                "nothing_to_train",
                epochs=trainer.state.epoch,
                max_epochs=trainer.state.max_epochs,
                message=f"the run stopped early: {self.monitor.name} did not improve for "
                f"{self.bad_epochs} epochs; raise early_stopping.patience to train on",
            )
            trainer.terminate()
        elif self.start_epoch >= trainer.state.max_epochs and not trainer.state.iteration:
            trainer.log_event(
                "notice",
                message=f"early_stopping.start_epoch {self.start_epoch} is not before the last "
                f"epoch, {trainer.state.max_epochs}: nothing stops the run early",
            )

    def __call__(self, trainer: Trainer) -> None:
        """Look at this epoch's value and decide."""
        value = self.monitor.read(trainer)
        if value is not None and self.observe(value, trainer.state.epoch):
            trainer.log_event(
                "early_stopped",
                epoch=trainer.state.epoch,
                monitor=self.monitor.name,
                best=self.best,
                best_epoch=self.best_epoch,
                bad_epochs=self.bad_epochs,
            )
            trainer.terminate()

    def observe(self, value: float, epoch: int) -> bool:
        """Count one epoch's value; returns whether patience has run out."""
        if self.monitor.is_better(value, self.best, self._needed_gain()):
            self.best, self.best_epoch = value, epoch
            self.bad_epochs, self._cooldown_left = 0, self.cooldown
        elif self._cooldown_left > 0:
            self._cooldown_left -= 1
        elif epoch > self.start_epoch:
            self.bad_epochs += 1
        return self.bad_epochs >= self.patience

    def _needed_gain(self) -> float:
        if not self.relative:
            return self.min_delta
        # An infinite best has no share.
        return self.min_delta * abs(self.best) if self.best and math.isfinite(self.best) else 0.0

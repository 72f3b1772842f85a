"""The run's metrics for TensorBoard."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ignite.engine import Events

from engine.events import Phase, TrainEvents
from engine.optim import learning_rate
from engine.reporting import require_package
from engine.trainer import Trainer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes each epoch's metrics and learning rate as scalars over the epochs.

    The optimizer steps that ``step_log`` announces are scalars over the steps, in the subfolder
    ``steps``, which TensorBoard shows as another run. NaN leaves a gap. In a resumed run the epochs
    and steps that come again replace the former ones (``purge_step``).
    """

    phase = Phase.RECORD
    folder: Path  # from attaching on
    first_process_only = True

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = folder
        self._epochs = _Scalars()
        self._steps = _Scalars()

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs and of the run."""
        self.folder = trainer.in_run_dir("tensorboard.folder", self._folder, "events")
        require_package("tensorboard")
        trainer.add_event_handler(TrainEvents.LOG_EVENT, self.note)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(Events.COMPLETED, self.close)

    def __call__(self, trainer: Trainer) -> None:
        """Write one epoch and flush it to the disk."""
        values = {"lr": learning_rate(trainer.optimizer), **trainer.state.metrics}
        self._epochs.write(self.folder, trainer.state.epoch, values)
        self._epochs.flush()
        self._steps.flush()

    def note(self, trainer: Trainer) -> None:
        """Write one optimizer step; other notices are no scalars."""
        notice = trainer.state.notice
        if notice["event"] != "step":
            self._steps.flush()  # a checkpoint may have been saved that continues after it
            return
        values = {"lr": notice["lr"], "gradient_norm": notice["gradient_norm"], **notice["losses"]}
        self._steps.write(self.folder / "steps", notice["optimizer_step"], values)

    def close(self) -> None:
        """Close the files; also call it where a run ends in an exception."""
        self._epochs.close()
        self._steps.close()


class _Scalars:
    """Scalars of one folder, over numbers that rise except after a rollback."""

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None
        self._last = 0

    def write(self, folder: Path, number: int, values: Mapping[str, float | None]) -> None:
        if number <= self._last:  # the run was taken back to an earlier checkpoint
            self.close()
        if self._writer is None:
            # Imported here, because it takes a second.
            from torch.utils.tensorboard import SummaryWriter

            # TensorBoard reads files in the order of their names: the second, then a counter
            # without leading zeros, by which the tenth file of a second comes before the ninth.
            if any(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
                time.sleep(1 - time.time() % 1)
            self._writer = SummaryWriter(str(folder), purge_step=number)
        self._last = number
        for name, value in values.items():
            if value is not None and not math.isnan(value):
                self._writer.add_scalar(name, value, number)

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

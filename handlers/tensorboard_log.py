"""The run's metrics for TensorBoard."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from engine.errors import UsageError
from engine.events import Phase
from engine.optimisers import learning_rate

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from engine.trainer import Trainer


class TensorBoard:
    """Writes each epoch's metrics and learning rate as scalars over the epochs.

    An undefined metric (NaN) leaves a gap. A resumed run continues the same folder: TensorBoard
    is told to drop what was written for the epochs that now come again.

    Args:
        folder: Where the event files go; ``<run_dir>/events`` by default.

    Example:
        >>> TensorBoard("runs/first/events").folder.name
        'events'
    """

    phase = Phase.RECORD
    first_process_only = True

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._writer: SummaryWriter | None = None
        self._last_epoch = 0

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs and of the run.

        Raises:
            UsageError: There is no folder to write to, or TensorBoard is not installed.
        """
        if self.folder is None:
            if trainer.run_dir is None:
                raise UsageError("tensorboard.folder: name one, the trainer has no run_dir")
            self.folder = Path(trainer.run_dir) / "events"
        if importlib.util.find_spec("tensorboard") is None:
            raise UsageError(
                "the handler tensorboard needs the package of that name: pip install tensorboard"
            )
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(Events.COMPLETED, self.close)

    def __call__(self, trainer: Trainer) -> None:
        """Write one epoch; it is on the disk afterwards, however the run ends."""
        state = trainer.state
        if state.epoch <= self._last_epoch:  # the run was taken back to an earlier checkpoint
            self.close()
        if self._writer is None:
            self._writer = self._open(state.epoch)
        self._last_epoch = state.epoch
        values: dict[str, Any] = {"lr": learning_rate(trainer.optimizer), **state.metrics}
        for name, value in values.items():
            if not math.isnan(value):
                self._writer.add_scalar(name, value, state.epoch)
        self._writer.flush()

    def _open(self, epoch: int) -> SummaryWriter:
        # Imported when there is something to write: it takes a second, which a run that fails
        # early should not wait for.
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder), purge_step=epoch)

    def close(self) -> None:
        """Let go of the file; to be called where a run ends in an exception, too."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

"""Where a run stands, told to another process, which can read it after the run was killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ignite.engine import Events

from engine.events import Phase

if TYPE_CHECKING:
    from engine.trainer import Trainer

START_UP = "start-up"
IN_EPOCH, VALIDATION, EPOCHS_END = "epoch", "validation", "epoch's end"
EXPORT = "export"
STAGES = (START_UP, IN_EPOCH, VALIDATION, EPOCHS_END, EXPORT)

# One write of a fixed size, so that a reader never sees half of it.
LINE = "{stage:<16}{iteration:>10}\n"


class Whereabouts:
    """Writes the stage and the iteration to a file, over what stood there.

    What a process has handed to the system outlives it, so that after a SIGKILL the file tells
    what the run was at. Until training starts it holds what :func:`reset_whereabouts` wrote.

    Args:
        file: Made where it is missing.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self._descriptor: int | None = None

    def attach(self, trainer: Trainer) -> None:
        """Listen where one stage passes into the next, and to iterations."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self.enter_epoch)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.enter_epoch)
        trainer.add_event_handler(
            Events.EPOCH_COMPLETED, self.enter_validation, phase=Phase.PREPARE
        )
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.leave_validation, phase=Phase.DECIDE)
        # A page is still written after this; what follows is outside of the training.
        trainer.add_event_handler(Events.COMPLETED, self.enter_export, phase=Phase.REPORT)

    def enter_epoch(self, trainer: Trainer) -> None:
        """Batches are trained on."""
        self._tell(IN_EPOCH, trainer)

    def enter_validation(self, trainer: Trainer) -> None:
        """The epoch's batches are done."""
        self._tell(VALIDATION, trainer)

    def leave_validation(self, trainer: Trainer) -> None:
        """What was measured is acted on, written down and saved."""
        self._tell(EPOCHS_END, trainer)

    def enter_export(self, trainer: Trainer) -> None:
        """Training is over."""
        self._tell(EXPORT, trainer)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _tell(self, stage: str, trainer: Trainer) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT, 0o644)
        line = LINE.format(stage=stage, iteration=trainer.state.iteration)
        os.pwrite(self._descriptor, line.encode(), 0)


def reset_whereabouts(file: Path, iteration: int = 0) -> None:
    """Say that a process begins, from about this iteration."""
    file.write_text(LINE.format(stage=START_UP, iteration=iteration), "utf-8")


def read_whereabouts(file: Path) -> tuple[str, int]:
    """The stage, one of ``STAGES``, and the iteration.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "whereabouts"
        >>> reset_whereabouts(file)
        >>> read_whereabouts(file)
        ('start-up', 0)
    """
    stage, _, iteration = file.read_text("utf-8").strip().rpartition(" ")
    return stage.strip(), int(iteration)

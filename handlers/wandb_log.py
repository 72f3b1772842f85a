"""The run's metrics for Weights & Biases."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Events

from datasets.errors import UsageError, nearest
from engine.checkpointing import preserve_rng_state
from engine.events import Phase
from engine.protocols import SavedAttributes
from engine.reporting import describe_run, epoch_values, require_package
from engine.trainer import Trainer

MODES = ("online", "offline", "disabled")
# Neither the terminal's text nor the code is sent, which may name patients or paths.
PRIVATE = {"console": "off", "save_code": False, "disable_code": True, "disable_git": True}


class WandB(SavedAttributes):
    """Logs each epoch's metrics and learning rate to W&B, through Ignite's ``WandBLogger``.

    Needs ``pip install wandb``. Its config describes the run and holds ``config``. A resumed run
    continues the same W&B run; W&B ignores the epochs that come again. An undefined metric (NaN) is
    left out. ``mode`` is ``online``, ``offline`` (to be sent with ``wandb sync``) or ``disabled``;
    by default that of ``WANDB_MODE``, else online.
    """

    phase = Phase.RECORD
    saved = ("_run_id",)
    first_process_only = True

    def __init__(
        self,
        project: str = "scanfire",
        name: str | None = None,
        mode: str | None = None,
        entity: str | None = None,
        tags: Sequence[str] = (),
        folder: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if mode is not None and mode not in MODES:
            raise UsageError(f"wandb.mode: '{mode}' is unknown{nearest(mode, MODES)}")
        if isinstance(tags, str):
            raise UsageError(f"wandb.tags must be a list of names, not '{tags}'")
        self.project, self.name, self.mode, self.entity = project, name, mode, entity
        self.tags = list(tags)
        self.folder = None if folder is None else Path(folder)
        self.config = dict(config or {})
        self._run_id: str | None = None
        self._logger: Any = None

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's start and end and to the ends of epochs."""
        require_package("wandb")
        self.folder = trainer.in_run_dir("wandb.folder", self.folder)
        if self.name is None:
            self.name = Path(trainer.run_dir or self.folder).name
        trainer.register_state("wandb", self)
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, trainer: Trainer) -> None:
        """Begin the W&B run, or continue it; UsageError if W&B refuses, as without a login."""
        if trainer.should_terminate:  # a finished run: nothing will be logged
            return
        # Imported here, because it takes seconds.
        import wandb  # type: ignore[import-not-found, unused-ignore]
        from ignite.handlers import WandBLogger

        self._run_id = self._run_id or uuid.uuid4().hex
        try:
            with preserve_rng_state():
                self._logger = WandBLogger(
                    project=self.project,
                    name=self.name,
                    mode=self.mode,
                    entity=self.entity,
                    tags=self.tags,
                    dir=str(self.folder),
                    config={**describe_run(trainer), **self.config},
                    id=self._run_id,
                    resume="allow",
                    settings=wandb.Settings(**PRIVATE),
                )
        except wandb.Error as error:
            raise UsageError(f"wandb: {' '.join(str(error).split())}") from error

    def __call__(self, trainer: Trainer) -> None:
        """Log one epoch."""
        if self._logger is not None:
            self._logger.log(epoch_values(trainer), step=trainer.state.epoch)

    def finish(self) -> None:
        """Mark the W&B run as finished."""
        self._end(exit_code=0)

    def close(self) -> None:
        """Mark the W&B run as failed, unless it has ended; call it after an exception."""
        self._end(exit_code=1)

    def _end(self, exit_code: int) -> None:
        logger, self._logger = self._logger, None
        if logger is not None:
            logger.finish(exit_code=exit_code)

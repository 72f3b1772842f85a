"""The run's metrics for Weights & Biases."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.errors import UsageError, one_line
from datasets.specs import require_choice
from engine.reporting import ExternalLogger, epoch_values
from engine.trainer import Trainer

MODES = ("online", "offline", "disabled")
# Neither the terminal's text nor the code is sent, which may name patients or paths.
PRIVATE = {"console": "off", "save_code": False, "disable_code": True, "disable_git": True}


class WandB(ExternalLogger):
    """Logs each epoch's metrics and learning rate to W&B, through Ignite's ``WandBLogger``.

    Its config describes the run and holds ``config``. A resumed run continues the same W&B run; W&B
    ignores the epochs that come again. NaN is left out. ``mode`` is ``online``, ``offline`` (to be
    sent with ``wandb sync``) or ``disabled``; by default that of ``WANDB_MODE``, else online.
    """

    package = "wandb"

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
        super().__init__(name, config)
        self.mode = None if mode is None else require_choice("wandb.mode", mode, MODES)
        if isinstance(tags, str):
            raise UsageError(f"wandb.tags must be a list of names, not '{tags}'")
        self.project, self.entity, self.tags = project, entity, list(tags)
        self.folder = None if folder is None else Path(folder)

    def attach(self, trainer: Trainer) -> None:
        """As the base; W&B's files go to the run folder by default."""
        super().attach(trainer)
        self.folder = trainer.in_run_dir("wandb.folder", self.folder)
        self.name = self.name or self.folder.name

    def _begin(self, description: dict[str, Any]) -> None:
        # Imported here, because it takes seconds.
        import wandb  # type: ignore[import-not-found, unused-ignore]
        from ignite.handlers import WandBLogger

        self._run_id = self._run_id or uuid.uuid4().hex
        try:
            self._logger = WandBLogger(
                project=self.project,
                name=self.name,
                mode=self.mode,
                entity=self.entity,
                tags=self.tags,
                dir=str(self.folder),
                config=description,
                id=self._run_id,
                resume="allow",
                settings=wandb.Settings(**PRIVATE),
            )
        except wandb.Error as error:
            raise UsageError(f"wandb: {one_line(error)}") from error

    def __call__(self, trainer: Trainer) -> None:
        """Log one epoch."""
        if self._logger is not None:
            self._logger.log(epoch_values(trainer), step=trainer.state.epoch)

    def _close(self, logger: Any, failed: bool) -> None:
        logger.finish(exit_code=int(failed))

"""The run's page, updated during the run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.reporting import LivePage
from engine.trainer import Trainer

Page = Callable[["Trainer", Sequence[dict[str, Any]]], str]


class Report(LivePage):
    """Writes ``report/index.html`` at the ends of epochs: by default, the training curves."""

    name = "report"
    file_name = "index.html"

    def __init__(
        self, page: Page | None = None, path: str | Path | None = None, every: int = 1
    ) -> None:
        super().__init__(path, every)
        self.page = page

    def render(self, trainer: Trainer) -> str:
        """The page as text."""
        if self.page is not None:
            return self.page(trainer, trainer.history)
        return super().render(trainer)

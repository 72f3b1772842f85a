"""The run's page, kept up to date while the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.reporting import LivePage, render

if TYPE_CHECKING:
    from engine.trainer import Trainer

Page = Callable[["Trainer", Sequence[dict[str, Any]]], str]


class Report(LivePage):
    """Writes ``report/index.html`` as epochs end, so that a long run can be watched.

    When the page is written is its business, what stands on it is not: whoever knows the cohort
    hands over ``page``. Alone it shows the training curves. The page is replaced as a whole.

    Args:
        page: Called with the trainer and the epochs so far (rows with ``epoch`` and ``metrics``);
            returns the page as text. None for the training curves.
        path: The page; ``<run_dir>/report/index.html`` by default.
        every: Write it each so many epochs (less often where epochs are short), and when training
            ends.

    Raises:
        UsageError: ``every`` is less than 1.

    Example:
        >>> Report(lambda trainer, epochs: f"<p>{len(epochs)} epochs</p>", "page.html").path.name
        'page.html'
    """

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
        return render(trainer.history, self.title(trainer), trainer.state.max_epochs)

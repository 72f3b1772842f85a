"""A page that is made anew as a run goes on, so that a long one can be watched."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from datasets.errors import UsageError
from engine.errors import check_whole
from engine.events import Phase, in_phase
from engine.files import write_whole
from engine.optim import learning_rate

if TYPE_CHECKING:
    from engine.trainer import Trainer

# Where epochs are short the page lags behind: by at least so many seconds, and by so many times
# what it took to write, which so never slows a run by more than a hundredth.
LAG_S, LAG_OF_COST = 1.0, 100.0


class LivePage(ABC):
    """Keeps the epochs' values and writes a page of them, replaced as a whole each time.

    Whoever opens it while the run goes on sees a whole page. The history is saved with every
    checkpoint: a resumed run continues it.

    Args:
        path: The page; ``<run_dir>/report/<name>.html`` by default.
        every: Write it each so many epochs (less often where epochs are short), and when the run
            ends.

    Attributes:
        name: Of the handler; its settings and its file are called so.
        history: One row an epoch so far, with ``epoch`` and ``metrics`` (name -> value).

    Raises:
        UsageError: ``every`` is less than 1.
    """

    phase = Phase.REPORT
    first_process_only = True
    name: str
    file_name: str

    def __init__(self, path: str | Path | None = None, every: int = 1) -> None:
        self.path = None if path is None else Path(path)
        self.every = check_whole(f"{self.name}.every", every)
        self.history: list[dict[str, Any]] = []
        self._written = 0  # epochs on the page as it stands
        self._not_before = 0.0

    @abstractmethod
    def render(self, trainer: Trainer) -> str:
        """The page as text."""

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs and of the run.

        Raises:
            UsageError: There is no place to write to.
        """
        if self.path is None:
            if trainer.run_dir is None:
                raise UsageError(f"{self.name}.path: name one, the trainer has no run_dir")
            self.path = Path(trainer.run_dir) / "report" / self.file_name
        trainer.register_state(self.name, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.remember)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(Events.COMPLETED, self.write)

    @in_phase(Phase.RECORD)
    def remember(self, trainer: Trainer) -> None:
        """Take down the epoch's values, before this epoch's checkpoint is saved."""
        values = {"lr": learning_rate(trainer.optimizer), **trainer.state.metrics}
        metrics = {name: float(value) for name, value in values.items()}
        self.history.append({"epoch": trainer.state.epoch, "metrics": metrics})

    def __call__(self, trainer: Trainer) -> None:
        """Write the page where it is due."""
        if trainer.state.epoch % self.every == 0 and time.perf_counter() >= self._not_before:
            self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write the page, unless it shows everything already.

        Raises:
            UsageError: The disk is full, say; the page before still stands.
        """
        if len(self.history) == self._written or self.path is None:
            return
        began = time.perf_counter()
        text = self.render(trainer)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(text.encode(), self.path.parent, self.path.name, durable=False)
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}") from error
        self._written = len(self.history)
        now = time.perf_counter()
        self._not_before = now + max(LAG_S, LAG_OF_COST * (now - began))

    def title(self, trainer: Trainer) -> str:
        """The run's name, or that of the page's folder."""
        assert self.path is not None
        return self.path.parent.name if trainer.run_dir is None else Path(trainer.run_dir).name

    def state_dict(self) -> dict[str, Any]:
        """The epochs so far."""
        return {"history": [{**row, "metrics": dict(row["metrics"])} for row in self.history]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the history; the page is written anew with the next epoch."""
        self.history = [{**row, "metrics": dict(row["metrics"])} for row in state_dict["history"]]
        self._written = 0

"""The training curves, as an interactive page that grows with the run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from engine.errors import UsageError, check_whole
from engine.events import Phase, in_phase
from engine.files import write_whole
from engine.optimisers import learning_rate
from engine.pages import PLOTLY_CONFIG, page_template, plotly_js

if TYPE_CHECKING:
    from engine.trainer import Trainer

TEMPLATE = Path(__file__).parent / "templates" / "training_curves.html.j2"
# Where epochs are shorter, the page lags behind by so much: it takes tens of milliseconds to write.
LAG_S = 1.0
SIDES = {"train": "training", "val": "validation"}


class TrainingCurves:
    """Writes a page with a chart for each metric, training and validation together.

    The page stands by itself: it holds the plotting library and the numbers, asks the network
    for nothing, and is replaced as a whole, so that whoever opens it while the run goes on sees
    a whole page. The history is saved with every checkpoint: a resumed run continues its curves.

    An undefined value (NaN) leaves a gap in its curve; an epoch that was not measured does not.

    Args:
        path: The page; ``<run_dir>/report/training_curves.html`` by default.
        every: Write it each so many epochs (at most once a second), and when the run ends.

    Raises:
        UsageError: ``every`` is less than 1.

    Example:
        >>> TrainingCurves("runs/first/curves.html", every=5).path.name
        'curves.html'
    """

    phase = Phase.REPORT

    def __init__(self, path: str | Path | None = None, every: int = 1) -> None:
        self.path = None if path is None else Path(path)
        self.every = check_whole("training_curves.every", every)
        self._history: list[dict[str, Any]] = []
        self._written = 0  # epochs on the page as it stands
        self._written_at = -math.inf

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs and of the run.

        Raises:
            UsageError: There is no place to write to.
        """
        if self.path is None:
            if trainer.run_dir is None:
                raise UsageError("training_curves.path: name one, the trainer has no run_dir")
            self.path = Path(trainer.run_dir) / "report" / "training_curves.html"
        trainer.keep("training_curves", self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.remember)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(Events.COMPLETED, self.write)

    @in_phase(Phase.RECORD)
    def remember(self, trainer: Trainer) -> None:
        """Take down the epoch's values, before this epoch's checkpoint is saved."""
        values = {"lr": learning_rate(trainer.optimizer), **trainer.state.metrics}
        metrics = {name: float(value) for name, value in values.items()}
        self._history.append({"epoch": trainer.state.epoch, "metrics": metrics})

    def __call__(self, trainer: Trainer) -> None:
        """Write the page where it is due."""
        short_epochs = time.perf_counter() - self._written_at < LAG_S
        if trainer.state.epoch % self.every == 0 and not short_epochs:
            self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write the page, unless it shows everything already.

        Raises:
            UsageError: The disk is full, say; the page before still stands.
        """
        if len(self._history) == self._written or self.path is None:
            return
        max_epochs = trainer.state.max_epochs
        title = self.path.parent.name if trainer.run_dir is None else Path(trainer.run_dir).name
        text = render(self._history, title=title, max_epochs=max_epochs)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(text.encode(), self.path.parent, self.path.name, durable=False)
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}") from error
        self._written = len(self._history)
        self._written_at = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The epochs so far."""
        return {"history": [{**row, "metrics": dict(row["metrics"])} for row in self._history]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the curves; the page is written anew with the next epoch."""
        self._history = [{**row, "metrics": dict(row["metrics"])} for row in state_dict["history"]]
        self._written = 0


def render(history: list[dict[str, Any]], title: str, max_epochs: int) -> str:
    """The page as text.

    Args:
        history: One row an epoch, with ``epoch`` and ``metrics`` (name -> value).
        title: The run's name.
        max_epochs: The run's budget.
    """
    from markupsafe import Markup

    panels = make_panels(history)
    data = json.dumps({"panels": panels, "config": PLOTLY_CONFIG}, allow_nan=False)
    last = history[-1]
    latest = []
    for panel in panels:
        values = (last["metrics"].get(f"{side}/{panel['title']}") for side in SIDES)
        latest.append((panel["title"], *map(_figure, values)))
    return page_template(TEMPLATE).render(
        title=title,
        state=f"{last['epoch']} of {max_epochs} epochs",
        epoch=last["epoch"],
        panels=panels,
        latest=[row for row in latest if any(row[1:])],
        # A "<" can only stand within a string there; escaped, it can end no element.
        data=Markup(data.replace("<", "\\u003c")),
        plotly_js=plotly_js(),
    )


def make_panels(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One chart a metric: the loss first, the learning rate last.

    Args:
        history: As for :func:`render`.

    Returns:
        Charts with ``id``, ``title`` and ``lines``; a line has ``name``, ``side``, ``epochs``
        and ``values``, in which None is a gap.

    Example:
        >>> rows = [{"epoch": 1, "metrics": {"train/loss": 0.7, "val/loss": 0.8, "lr": 0.1}}]
        >>> [(chart["title"], len(chart["lines"])) for chart in make_panels(rows)]
        [('loss', 2), ('lr', 1)]
    """
    charts: dict[str, dict[str, dict[str, Any]]] = {"loss": {}}
    for row in history:
        for name, value in row["metrics"].items():
            side, _, metric = name.partition("/")
            if side not in SIDES or not metric:
                side, metric = "other", name
            line = charts.setdefault(metric, {}).setdefault(
                name,
                {"name": SIDES.get(side, metric), "side": side, "epochs": [], "values": []},
            )
            line["epochs"].append(row["epoch"])
            line["values"].append(value if math.isfinite(value) else None)
    if "lr" in charts:
        charts["lr"] = charts.pop("lr")
    shown = [(title, lines) for title, lines in charts.items() if lines]
    return [
        {"id": f"curve-{number}", "title": title, "lines": list(lines.values())}
        for number, (title, lines) in enumerate(shown, start=1)
    ]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return "undefined" if math.isnan(value) else f"{value:.4g}"

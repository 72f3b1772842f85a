"""Self-contained pages: their template and library, training curves, live pages."""

from __future__ import annotations

import functools
import json
import math
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
from engine.reporting.figure_format import figure_text

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup
if TYPE_CHECKING:
    from engine.trainer import Trainer

# Plotly's own tool bar would offer to upload the chart; these may be patients' data.
PLOTLY_CONFIG: dict[str, Any] = {
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["sendChartToCloud"],
    "displaylogo": False,
    "responsive": True,
}


# The libraries are imported where a page is written: a run that fails early should not wait.
@functools.cache
def page_template(path: Path) -> jinja2.Template:
    """Read a page's Jinja2 template, which escapes whatever it is given."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)


@functools.cache
def plotly_js() -> Markup:
    """The plotting library as text that can stand inside a script element."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    # </script> inside the library's own strings would end the element early.
    return Markup(get_plotlyjs().replace("</script", "<\\/script"))


TEMPLATE = Path(__file__).parent / "templates" / "training_curves.html.j2"
SIDES = {"train": "training", "val": "validation"}


def render(history: list[dict[str, Any]], title: str, max_epochs: int) -> str:
    """The page as text.

    Args:
        history: One row per epoch, with ``epoch`` and ``metrics`` (name -> value).
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
    return figure_text(value)


# Where epochs are short the page lags behind: by at least so many seconds, and by so many times
# what it took to write, which so never slows a run by more than a hundredth.
LAG_S, LAG_OF_COST = 1.0, 100.0


class LivePage(ABC):
    """Keeps the epochs' values and writes a page of them, replaced as a whole each time.

    A reader sees a whole page at any time. The history is saved with every
    checkpoint: a resumed run continues it.

    Args:
        path: The page; ``<run_dir>/report/<name>.html`` by default.
        every: Write it each so many epochs (less often where epochs are short), and when the run
            ends.

    Attributes:
        name: Of the handler; its settings and its file are called so.
        history: One row per epoch so far, with ``epoch`` and ``metrics`` (name -> value).

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

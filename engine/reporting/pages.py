"""Interactive pages: templates, training curves, and pages renewed during a run.

A page opens from the disk and loads nothing from the network.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from datasets.specs import require_whole
from engine.events import Phase
from engine.reporting.figure_format import figure_text
from engine.reporting.metric_tables import write_text

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

    from engine.trainer import Trainer


TEMPLATE = Path(__file__).parent / "templates" / "training_curves.html.j2"
SUBSETS = {"train": "training", "val": "validation"}
# A page of short epochs is renewed at most once in LAG_S seconds and LAG_OF_COST times its
# writing time, so that it slows a run by at most a hundredth.
LAG_S, LAG_OF_COST = 1.0, 100.0
# Plotly's own tool bar would offer to upload the chart; these may be patients' data.
PLOTLY_CONFIG: dict[str, Any] = {
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["sendChartToCloud"],
    "displaylogo": False,
    "responsive": True,
}


# The libraries are imported where a page is written, not when a run starts.
@functools.cache
def page_template(path: Path) -> jinja2.Template:
    """Load a Jinja2 template file that escapes all values."""
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
    """The plotting library as text for a script element."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    # </script> inside the library's own strings would end the element early.
    return Markup(get_plotlyjs().replace("</script", "<\\/script"))


def render_plots(template: Path, data: Mapping[str, Any], **values: Any) -> str:
    """A page of a template with the plotting library and ``data`` for its script."""
    from markupsafe import Markup

    text = json.dumps({**data, "config": PLOTLY_CONFIG}, allow_nan=False)
    # A "<" can only stand within a string there; escaped, it can end no element.
    safe = Markup(text.replace("<", "\\u003c"))
    return page_template(template).render(data=safe, plotly_js=plotly_js(), **values)


def render(history: list[dict[str, Any]], title: str, max_epochs: int) -> str:
    """The page of training curves, of at least one epoch of ``trainer.history``, as text."""
    panels = make_panels(history)
    last = history[-1]
    latest = []
    for panel in panels:
        values = (last["metrics"].get(f"{subset}/{panel['title']}") for subset in SUBSETS)
        texts = ("" if value is None else figure_text(value) for value in values)
        latest.append((panel["title"], *texts))
    return render_plots(
        TEMPLATE,
        {"panels": panels},
        title=title,
        state=f"{last['epoch']} of {max_epochs} epochs",
        epoch=last["epoch"],
        panels=panels,
        latest=[row for row in latest if any(row[1:])],
    )


def make_panels(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One chart per metric of a log's rows or ``trainer.history``: the loss first, lr last.

    A chart has ``id``, ``title`` and ``lines``; a line ``name``, ``side`` (subset), ``epochs`` and
    ``values``, in which None is a gap.
    """
    charts: dict[str, dict[str, dict[str, Any]]] = {"loss": {}}
    for row in history:
        for name, logged in row["metrics"].items():
            # A log holds null for NaN and a word for infinity.
            value = math.nan if logged is None else float(logged)
            subset, _, metric = name.partition("/")
            if subset not in SUBSETS or not metric:
                subset, metric = "other", name
            line = charts.setdefault(metric, {}).setdefault(
                name,
                {"name": SUBSETS.get(subset, metric), "side": subset, "epochs": [], "values": []},
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


class LivePage:
    """Writes a page of the epochs so far, ``<run_dir>/report/<file_name>`` by default.

    It is replaced as a whole every so many epochs (less often where epochs are short), and when the
    run ends.
    """

    phase = Phase.REPORT
    first_process_only = True
    name: str
    file_name: str

    def __init__(self, path: str | Path | None = None, every: int = 1) -> None:
        self.path = None if path is None else Path(path)
        self.every = require_whole(f"{self.name}.every", every, 1)
        self._last_shown: dict[str, Any] | None = None  # the last epoch on the page
        self._not_before = 0.0

    def render(self, trainer: Trainer) -> str:
        """The page as text: the training curves."""
        assert self.path is not None
        named = self.path.parent if trainer.run_dir is None else Path(trainer.run_dir)
        return render(trainer.history, named.name, trainer.state.max_epochs)

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs and of the run; it takes a path or a run_dir."""
        self.path = trainer.in_run_dir(f"{self.name}.path", self.path, "report", self.file_name)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(Events.COMPLETED, self.write)

    def __call__(self, trainer: Trainer) -> None:
        """Write the page if it is due."""
        if trainer.state.epoch % self.every == 0 and time.perf_counter() >= self._not_before:
            self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write the page, unless it shows all epochs already."""
        if self.path is None or not trainer.history or trainer.history[-1] is self._last_shown:
            return
        began = time.perf_counter()
        write_text(self.render(trainer), self.path)
        self._last_shown = trainer.history[-1]
        now = time.perf_counter()
        self._not_before = now + max(LAG_S, LAG_OF_COST * (now - began))

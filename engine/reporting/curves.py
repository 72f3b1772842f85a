"""The training curves: a chart for each metric, and a page of them that stands by itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from engine.reporting.figure_format import figure_text
from engine.reporting.pages import PLOTLY_CONFIG, page_template, plotly_js

TEMPLATE = Path(__file__).parent / "templates" / "training_curves.html.j2"
SIDES = {"train": "training", "val": "validation"}


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
    return figure_text(value)

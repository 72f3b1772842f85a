"""Pages of interactive figures that stand by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from datasets.errors import UsageError
from datasets.files import write_whole
from engine.reporting import PLOTLY_CONFIG, page_template, plotly_js

TEMPLATES = Path(__file__).parent / "templates"
# In pixels; the legend stands below the axis' title.
MARGINS = {"l": 60, "r": 20, "t": 40, "b": 50}
LEGEND_BELOW, DEFAULT_HEIGHT = 62, 450


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: Its address within the page; the figure is ``figure-<name>``.
        heading: Above it.
        figure: What is drawn, if anything.
        text: A sentence or two.
        table: Rows of cells, the first the names of the columns.
        choice: What of several a reader chooses to see it, the name of a label or a value; empty of
            a section that is always seen.
    """

    name: str
    heading: str
    figure: go.Figure | None = None
    text: str = ""
    table: Sequence[Sequence[Any]] | None = None
    choice: str = ""


def choices_of(sections: Sequence[Section]) -> list[str]:
    """What a reader can choose among, in the order of the sections; the first is seen at first."""
    return list(dict.fromkeys(section.choice for section in sections if section.choice))


def write_figure_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write a page of figures; it holds the plotting library and asks the network for nothing.

    Args:
        path: Replaced as a whole.
        title: The page's name.
        lead: What it is of, in a line.
        sections: In their order.

    Returns:
        ``path``.

    Raises:
        UsageError: It cannot be written.
    """
    text = page_template(TEMPLATES / "figures.html.j2").render(
        title=title,
        lead=lead,
        sections=[
            (section, "" if section.figure is None else figure_div(section.name, section.figure))
            for section in sections
        ],
        choices=choices_of(sections),
        plotly_js=plotly_js(),
    )
    try:
        write_whole(text.encode(), path.parent, path.name, durable=False)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    return path


def figure_div(name: str, figure: go.Figure) -> Markup:
    """A figure as an element of a page, without the library."""
    html: str = styled(figure).to_html(
        full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=PLOTLY_CONFIG
    )
    return Markup(html)


def styled(figure: go.Figure) -> go.Figure:
    """The figure itself, with the margins, the font and the place of the legend that pages have."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin=MARGINS,
        font={"family": "system-ui, sans-serif"},
        legend={"orientation": "h", "yanchor": "top", "x": 0, "xanchor": "left"},
    )
    if figure.layout.legend.y is None:
        drawn = (figure.layout.height or DEFAULT_HEIGHT) - MARGINS["t"] - MARGINS["b"]
        figure.update_layout(legend_y=-LEGEND_BELOW / drawn)
    return figure

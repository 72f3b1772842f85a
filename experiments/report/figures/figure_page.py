"""Sections, names and menus of figures, and pages of them that need no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from datasets.errors import file_errors
from datasets.files import write_whole
from datasets.messages import Message
from engine.reporting import PLOTLY_CONFIG, page_template, plotly_js

if TYPE_CHECKING:
    from experiments.report.words import Words

# Colour-blind safe (Okabe and Ito 2008, "Color Universal Design").
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
# Of a sample's name, in characters: it stands alone where it is pointed at.
LONGEST_ID = 60
# In characters: an axis or a legend that is given more pushes the drawing off the page.
LONGEST_NAME = 32
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
# Lines that are no data: the diagonal, chance, a threshold.
GUIDE = {"dash": "dot", "color": "grey"}


def shown_name(name: object, longest: int = LONGEST_NAME) -> str:
    """A name as a figure shows it: escaped, in one line, a long one without its middle."""
    return _with_phrase(name, _as_text(_shortened(name, longest)))


def shown_names(names: Iterable[object], longest: int = LONGEST_NAME) -> list[str]:
    """Names as a figure shows them, numbered where equal: on an axis equal ones would be one."""
    found: dict[str, object] = {}
    for name in names:
        short = text = _shortened(name, longest)
        number = 1
        while text in found:
            number += 1
            text = f"{short} ({number})"
        found[text] = name
    return [_with_phrase(name, _as_text(text)) for text, name in found.items()]


def _with_phrase(name: object, text: str) -> str:
    """What is shown of a name; of a message of one value (``for {}``) a message, too."""
    if isinstance(name, Message) and text == name:
        return name
    if not isinstance(name, Message) or len(name.values) != 1:
        return text
    before, _, behind = name.phrase.partition("{}")
    if not (text.startswith(before) and text.endswith(behind)):
        return text
    return Message(name.phrase, text[len(before) : len(text) - len(behind)])


def _shortened(name: object, longest: int) -> str:
    text = " ".join(str(name).split())
    if len(text) <= longest:
        return text
    ending = (longest - 1) // 2
    return text[: longest - 1 - ending] + ELLIPSIS + text[len(text) - ending :]


def _as_text(text: str) -> str:
    """Escape what Plotly would read as a tag, an entity or a place in a hover text."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("%{", "%&#123;")


TEMPLATES = Path(__file__).parent / "templates"
# In pixels; the legend stands below the axis' title.
MARGINS = {"l": 60, "r": 20, "t": 40, "b": 50}
LEGEND_BELOW, DEFAULT_HEIGHT = 62, 450


@dataclass(frozen=True)
class Section:
    """A part of a page, at the address ``name`` within it; the figure is ``figure-<name>``.

    The first row of ``table`` names its columns. If ``choice`` names a label or value, the section
    is seen when a reader chooses that.
    """

    name: str
    heading: str
    figure: go.Figure | None = None
    text: str = ""
    table: Sequence[Sequence[Any]] | None = None
    choice: str = ""


@dataclass(frozen=True)
class Part:
    """Sections of the page that belong together; where there are none, ``absent`` says why."""

    name: str
    heading: str
    sections: Sequence[Section] = ()
    absent: str = ""


def choices_of(sections: Sequence[Section]) -> list[str]:
    """The choices of a page, in the order of the sections; the first is shown at first."""
    return list(dict.fromkeys(section.choice for section in sections if section.choice))


def write_figure_page(
    path: Path, title: str, lead: str, sections: Sequence[Section], words: Words | None = None
) -> Path:
    """Write a page that holds the plotting library; UsageError where it cannot be written.

    With ``words`` its reader can choose the language; the title is then a message of one value.
    """
    drawn = [(s, "" if s.figure is None else figure_div(s.name, s.figure)) for s in sections]
    template = page_template(TEMPLATES / "figures.html.j2")
    text = template.render(
        title=title,
        lead=lead,
        sections=drawn,
        choices=choices_of(sections),
        words=words,
        page_data="" if words is None else words.for_script(title, [s.figure for s in sections]),
        plotly_js=plotly_js(),
    )
    with file_errors(f"cannot write {path}"):
        write_whole(text.encode(), path.parent, path.name, durable=False)
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


# The open menu's choices light up in a fixed pale colour: dark text is legible in both themes.
MENU_STYLE: dict[str, Any] = {
    **{"bgcolor": "#f6f8fa", "bordercolor": "#9aa4b0", "font": {"color": "#1a1c1f"}},
    **{"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
}


def add_menu(figure: go.Figure, choices: Sequence[str], belongs: Sequence[int]) -> None:
    """Let a reader choose which traces are shown; each ``belongs`` to a choice of that number."""
    buttons = []
    for number, choice in enumerate(choices):
        args = [{"visible": [owner == number for owner in belongs]}]
        buttons.append({"label": shown_name(choice), "method": "update", "args": args})
    for trace, owner in zip(figure.data, belongs, strict=True):
        trace.visible = owner == 0
    figure.update_layout(updatemenus=[{"buttons": buttons, **MENU_STYLE}])


def add_diagonal(figure: go.Figure, *values: np.ndarray, **place: Any) -> None:
    """Draw where predicted and true values are equal, over the extent of both."""
    every = np.concatenate(values)
    whole = every[np.isfinite(every)]
    ends = [float(whole.min()), float(whole.max())] if whole.size else [0.0, 1.0]
    line: dict[str, Any] = {"mode": "lines", "line": GUIDE, "name": "no error"}
    figure.add_scatter(x=ends, y=ends, hoverinfo="skip", **line, **place)


def list_names(figure: go.Figure) -> None:
    """Make the y-axis one of names, each of which is shown, the first at the top."""
    figure.update_yaxes(type="category", autorange="reversed", automargin=True, dtick=1)

"""Figures as PNG files, where the package for it and a browser are there."""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from datasets.files import write_whole
from experiments.report.figures import Section, shown_name

WIDTH, SCALE = 1200, 2
# In pixels: a figure that names no height, what is left free above and below each, and of that
# what is above; the legend begins below the axis.
HEIGHT, MARGIN, TITLE, LEGEND_BELOW = 400, 140, 70, 55

# In pixels: an axis may stand above the figure.
NAME_ABOVE = 36


def write_images_of(pages: Mapping[Path, Sequence[Section]]) -> str | None:
    """Write the figures of each page as an image beside it; as :func:`write_images` does."""
    return write_images(
        {
            path.with_suffix(".png"): [_named(s) for s in sections if s.figure is not None]
            for path, sections in pages.items()
        }
    )


def _named(section: Section) -> go.Figure:
    """Its figure; with what it is of above it where that is chosen on the page."""
    figure = go.Figure(section.figure)
    if section.choice:
        figure.add_annotation(
            text=f"<b>{shown_name(section.choice)}</b>",
            showarrow=False,
            **{"xref": "paper", "x": 1, "xanchor": "right"},
            **{"yref": "paper", "y": 1, "yanchor": "bottom", "yshift": NAME_ABOVE},
        )
    return figure


def write_images(wanted: Mapping[Path, Sequence[go.Figure]]) -> str | None:
    """Write figures as images; those of one file stand below each other.

    Args:
        wanted: File -> its figures; a file without figures is left out.

    Returns:
        None, or in one line why there are no images.
    """
    if importlib.util.find_spec("kaleido") is None:
        return "no PNG files beside the pages: they need kaleido (pip install 'scanfire[png]')"
    with tempfile.TemporaryDirectory() as scratch:
        drafts: dict[Path, Path] = {}
        orders = []
        for path, figures in wanted.items():
            if figures:
                drafts[path] = Path(scratch) / f"{len(drafts)}.png"
                figure = stack(figures)
                size = {"width": WIDTH, "height": figure.layout.height, "scale": SCALE}
                order = {"fig": figure.to_plotly_json(), "path": drafts[path], "opts": size}
                orders.append(order)
        try:
            import kaleido  # what it needs may be missing

            # One browser for all; by default it would fetch MathJax from the network.
            kaleido.write_fig_from_object_sync(
                orders, kopts={"mathjax": False}, cancel_on_error=True
            )
            for path, draft in drafts.items():
                write_whole(draft.read_bytes(), path.parent, path.name, durable=False)
        except Exception as error:  # the browser is another's program, and fails in its own ways
            reason = " ".join(str(error).split()) or type(error).__name__
            return f"no PNG files beside the pages: {reason}"
    return None


def stack(figures: Sequence[go.Figure]) -> go.Figure:
    """One figure of several, each with its axes, its notes and its legend, below each other.

    Example:
        >>> one = go.Figure(go.Scatter(y=[1, 2]))
        >>> sorted(name for name in stack([one, one]).to_plotly_json()["layout"] if "axis" in name)
        ['xaxis', 'xaxis2', 'yaxis', 'yaxis2']
    """
    heights = [(figure.layout.height or HEIGHT) + MARGIN for figure in figures]
    total, top, taken = sum(heights), 1.0, 0
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"annotations": [], "shapes": []}
    for number, (figure, height) in enumerate(zip(figures, heights, strict=True)):
        plain = copy.deepcopy(figure.to_plotly_json())
        own, share = plain["layout"], height / total
        # The figure's own unit square, less what its title above and its legend below take.
        slot = _Slot(
            bottom=top - share * (1 - TITLE / height),
            height=share * (1 - MARGIN / height),
            taken=taken,
            number=number,
        )
        top -= share
        traces = plain["data"]
        legend_shown = own.get("showlegend", sum(t.get("showlegend", True) for t in traces) > 1)
        for trace in traces:
            data.append(slot.move_trace(trace, legend_shown))
        moved, axes = slot.move_axes(own)
        layout.update(moved)
        for kind in ("annotations", "shapes"):
            layout[kind] += [slot.move_note(note) for note in own.get(kind, ())]
        layout[slot.name("legend")] = {
            "orientation": "h",
            "y": slot.bottom - LEGEND_BELOW / total,
            "yanchor": "top",
            "x": 0,
        }
        layout.update({key: own[key] for key in ("barmode", "boxmode") if key in own})
        taken += axes
    layout.update(height=total, width=WIDTH, template="none", bargap=0.05)
    layout["margin"] = {"l": 80, "r": 60, "t": 20, "b": 20}
    return go.Figure(data=data, layout=layout)


@dataclass(frozen=True)
class _Slot:
    """The place of one of the stacked figures, in shares of the whole, and its parts' names.

    Attributes:
        bottom: Of its unit square.
        height: Of its unit square.
        taken: Axes of the figures above it.
        number: Of the figure, from 0.
    """

    bottom: float
    height: float
    taken: int
    number: int

    def name(self, part: str) -> str:
        """The name here of a part that a figure has once."""
        return part if self.number == 0 else f"{part}{self.number + 1}"

    def axis(self, reference: str) -> str:
        """``x`` or ``x3`` as it is called here; ``free`` and ``paper`` stay."""
        letter, number = reference[0], reference[1:] or "1"
        if not number.isdigit():
            return reference
        here = int(number) + self.taken
        return letter + (str(here) if here > 1 else "")

    def up(self, y: float) -> float:
        """A height within the figure as one within the whole."""
        return self.bottom + y * self.height

    def _move_colorbar(self, holder: dict[str, Any]) -> None:
        if "colorbar" in holder:
            holder["colorbar"].update(y=self.up(0.5), len=self.height)

    def move_trace(self, trace: dict[str, Any], legend_shown: bool) -> dict[str, Any]:
        trace["xaxis"] = self.axis(trace.get("xaxis", "x"))
        trace["yaxis"] = self.axis(trace.get("yaxis", "y"))
        trace["legend"] = self.name("legend")
        if not legend_shown:
            trace["showlegend"] = False
        for holder in (trace, trace.get("marker", {})):
            self._move_colorbar(holder)
            if "coloraxis" in holder:
                holder["coloraxis"] = self.name("coloraxis")
        return trace

    def move_axes(self, own: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """The figure's axes as they are here, and how many of each letter there are."""
        axes = {name: axis for name, axis in own.items() if name[1:5] == "axis"}
        axes = axes or {"xaxis": {}, "yaxis": {}}  # a figure may leave its only axes unnamed
        moved: dict[str, Any] = {}
        for name, axis in axes.items():
            letter, number = name[0], name[len("xaxis") :]
            axis.setdefault("anchor", {"x": "y", "y": "x"}[letter] + number)
            for key in ("anchor", "matches", "overlaying", "scaleanchor"):
                if key in axis:
                    axis[key] = self.axis(axis[key])
            if letter == "y":
                axis["domain"] = [self.up(end) for end in axis.get("domain", (0, 1))]
            moved[f"{letter}axis{self.axis(letter + number)[1:]}"] = axis
        if "coloraxis" in own:
            self._move_colorbar(own["coloraxis"])
            moved[self.name("coloraxis")] = own["coloraxis"]
        return moved, max(int(name[len("xaxis") :] or 1) for name in axes)

    def move_note(self, note: dict[str, Any]) -> dict[str, Any]:
        """Put an annotation or a shape where its figure went."""
        for letter in "xy":
            axis, _, domain = note.get(f"{letter}ref", "paper").partition(" ")
            if axis != "paper":
                note[f"{letter}ref"] = self.axis(axis) + (f" {domain}" if domain else "")
            elif letter == "y":
                note.update({key: self.up(note[key]) for key in ("y", "y0", "y1") if key in note})
        return note

"""Figures as PNG files, where the package for it and a browser are there."""

from __future__ import annotations

import importlib.util
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from datasets.files import write_whole
from experiments.report.figures import Section, shown_name

WIDTH, SCALE = 1200, 2
# In pixels: a figure that names no height, what is left free around each, and how far below the
# axis the legend begins.
HEIGHT, LEGEND_BELOW = 400, 55
MARGIN = {"l": 80, "r": 60, "t": 70, "b": 70}
# In pixels: an axis may stand above the figure.
NAME_ABOVE = 36


def write_images_of(pages: Mapping[Path, Sequence[Section]]) -> str | None:
    """Write the figures of each page as an image beside it; as :func:`write_images` does."""
    wanted: dict[Path, list[go.Figure]] = {}
    for path, sections in pages.items():
        drawn = (section for section in sections if section.figure is not None)
        wanted[path.with_suffix(".png")] = [_named(section) for section in drawn]
    return write_images(wanted)


def _named(section: Section) -> go.Figure:
    """Its figure; with what it is of above it where that is chosen on the page."""
    figure = go.Figure(section.figure)
    if section.choice:
        across = {"xref": "paper", "x": 1, "xanchor": "right"}
        up = {"yref": "paper", "y": 1, "yanchor": "bottom", "yshift": NAME_ABOVE}
        name = f"<b>{shown_name(section.choice)}</b>"
        figure.add_annotation(text=name, showarrow=False, **across, **up)
    return figure


def write_images(wanted: Mapping[Path, Sequence[go.Figure]]) -> str | None:
    """Write figures as images; those of one file stand below each other.

    Returns None, or in one line why there are no images.
    """
    if importlib.util.find_spec("kaleido") is None:
        return "no PNG files beside the pages: they need kaleido (pip install 'scanfire[png]')"
    with tempfile.TemporaryDirectory() as scratch:
        drafts: dict[Path, list[Path]] = {}
        orders: list[dict[str, Any]] = []
        for path, figures in wanted.items():
            for figure in map(_framed, figures):
                draft = Path(scratch) / f"{len(orders)}.png"
                drafts.setdefault(path, []).append(draft)
                size = {"width": WIDTH, "height": figure.layout.height, "scale": SCALE}
                orders.append({"fig": figure.to_plotly_json(), "path": draft, "opts": size})
        try:
            import kaleido  # what it needs may be missing

            # One browser for all; by default it would fetch MathJax from the network.
            kaleido.write_fig_from_object_sync(
                orders, kopts={"mathjax": False}, cancel_on_error=True
            )
            for path, own in drafts.items():
                write_whole(_stacked(own), path.parent, path.name, durable=False)
        except Exception as error:  # the browser is another's program, and fails in its own ways
            reason = " ".join(str(error).split()) or type(error).__name__
            return f"no PNG files beside the pages: {reason}"
    return None


def _framed(figure: go.Figure) -> go.Figure:
    """A copy for paper: with its legend below it, and without the menus that nobody can open."""
    height = figure.layout.height or HEIGHT
    framed = go.Figure(figure)
    framed.update_layout(
        template="none",
        paper_bgcolor="white",
        plot_bgcolor="white",
        height=height + MARGIN["t"] + MARGIN["b"],
        margin=MARGIN,
        bargap=0.05,
    )
    framed.layout.updatemenus = ()
    legend = {"orientation": "h", "y": -LEGEND_BELOW / height, "yanchor": "top", "x": 0}
    return framed.update_layout(legend=legend, overwrite=False)


def _stacked(images: Sequence[Path]) -> bytes:
    """PNG files of equal width below each other, as one."""
    from PIL import Image  # comes with kaleido's extra

    parts = [Image.open(path) for path in images]
    whole = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    file = io.BytesIO()
    whole.save(file, "PNG")
    return file.getvalue()

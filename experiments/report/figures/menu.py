"""A menu that shows one part of a figure after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from experiments.report.figures.text import shown_name

# The open menu's choices light up in a fixed pale colour: dark text is legible in both themes.
STYLE: dict[str, Any] = {
    "bgcolor": "#f6f8fa",
    "bordercolor": "#9aa4b0",
    "font": {"color": "#1a1c1f"},
    "x": 0,
    "xanchor": "left",
    "y": 1.02,
    "yanchor": "bottom",
}


def add_menu(figure: go.Figure, choices: Sequence[str], belongs: Sequence[int]) -> None:
    """Let a reader choose which of a figure's traces are shown; the first choice is, until then.

    Args:
        figure: It has no other menu.
        choices: What there is to choose from.
        belongs: For each trace the number of its choice.
    """
    buttons = [
        {
            "label": shown_name(choice),
            "method": "update",
            "args": [{"visible": [owner == number for owner in belongs]}],
        }
        for number, choice in enumerate(choices)
    ]
    for trace, owner in zip(figure.data, belongs, strict=True):
        trace.visible = owner == 0
    figure.update_layout(updatemenus=[{"buttons": buttons, **STYLE}])

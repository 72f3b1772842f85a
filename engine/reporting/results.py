"""Metrics as a mapping that a notebook shows as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets.summaries import html_table
from engine.reporting.figure_format import figure_text


class Results(dict[str, Any]):
    """Metric -> value, or subset -> metric -> value; what is no number is left out of the table."""

    def _repr_html_(self) -> str:
        of_subsets = all(isinstance(value, Mapping) for value in self.values())
        columns: dict[str, Mapping[str, Any]] = dict(self) if of_subsets else {"value": self}
        names = dict.fromkeys(name for column in columns.values() for name in column)
        rows = [
            (name, *(_text(column.get(name)) for column in columns.values()))
            for name in names
            if any(isinstance(column.get(name), float | int) for column in columns.values())
        ]
        return html_table("Results", rows, ("", *columns))


def _text(value: Any) -> str:
    return figure_text(float(value)) if isinstance(value, float | int) else ""

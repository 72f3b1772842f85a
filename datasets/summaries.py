"""Objects that a notebook shows as a small table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape


class WithSummary:
    """A ``repr`` of one line, of :meth:`summary`; in a notebook a table, of :meth:`details` too."""

    def summary(self) -> Mapping[str, object]:
        """What the object is, by name, in a line's worth."""
        raise NotImplementedError

    def details(self) -> Mapping[str, object]:
        """What more it holds, for the table alone."""
        return {}

    def __repr__(self) -> str:
        """One line."""
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.summary().items())})"

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, [*self.summary().items(), *self.details().items()])


def html_table(
    caption: str, rows: Iterable[Sequence[object]], header: Sequence[object] = ()
) -> str:
    """A table in HTML, whose rows begin with their names; all text is escaped.

    Example:
        >>> html_table("Cohort", [("samples", 40)])
        '<table><caption>Cohort</caption><tr><th>samples</th><td>40</td></tr></table>'
    """
    lines = [f"<table><caption>{escape(caption)}</caption>"]
    if header:
        cells = "".join(f"<th>{escape(str(name))}</th>" for name in header)
        lines.append(f"<tr>{cells}</tr>")
    for first, *others in rows:
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in others)
        lines.append(f"<tr><th>{escape(str(first))}</th>{cells}</tr>")
    return "".join([*lines, "</table>"])

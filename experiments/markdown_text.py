"""Text as it is, inside Markdown: names from a cohort cannot become markup."""

from __future__ import annotations

import re

# What starts emphasis, code, links, HTML, table cells or entities inside a line (GFM 6.1).
CONTROL = re.compile(r"([\\`*_\[\]<>|~#$&!])")
SHORTEST_FENCE = 3


def escape_markdown(text: object) -> str:
    r"""A text that a Markdown reader shows as it is, in one line.

    Args:
        text: A name, say; whatever stands for a line's end becomes a space.

    Example:
        >>> print(escape_markdown("CRP_max|mg*L"))
        CRP\_max\|mg\*L
    """
    return CONTROL.sub(r"\\\1", " ".join(str(text).split()))


def fenced(text: str, language: str) -> str:
    """A block of code, behind a fence longer than any in the text itself.

    Args:
        text: Ends with a line's end or not.
        language: What a reader colours it as.

    Example:
        >>> print(fenced("a: 1", "yaml"))
        ```yaml
        a: 1
        ```
    """
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(SHORTEST_FENCE, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"

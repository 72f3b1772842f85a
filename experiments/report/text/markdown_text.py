"""Text as it is, inside Markdown: names from a cohort cannot become markup."""

from __future__ import annotations

import re

# What starts emphasis, code, links, HTML, table cells or entities inside a line (GFM 6.1).
CONTROL = re.compile(r"([\\`*_\[\]<>|~#$&!])")
SHORTEST_FENCE = 3
# An escaped character, or a mark of code that stands for itself.
MARK = re.compile(r"\\(.)|`")


def escape_markdown(text: object) -> str:
    r"""A text that a Markdown reader shows as it is, in one line.

    Args:
        text: A name, say; whatever stands for a line's end becomes a space.

    Example:
        >>> print(escape_markdown("CRP_max|mg*L"))
        CRP\_max\|mg\*L
    """
    return CONTROL.sub(r"\\\1", " ".join(str(text).split()))


def plain_text(markdown: str) -> str:
    r"""A line of Markdown in which all names are escaped, for a reader that knows no Markdown.

    Args:
        markdown: Without marks of its own but for code.

    Example:
        >>> plain_text(f"few of {escape_markdown('a_b')} in `metrics.json`")
        'few of a_b in metrics.json'
    """
    return MARK.sub(lambda found: found[1] or "", markdown)


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

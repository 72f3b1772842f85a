"""Names of a cohort's, as figures show them: Plotly reads a little HTML in every text."""

from __future__ import annotations

from collections.abc import Iterable

# In characters: an axis or a legend that is given more pushes the drawing off the page.
LONGEST_NAME = 32
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
# Behind a name that would otherwise look like another one's.
NUMBERED = "{} ({})"


def shown_name(name: object, longest: int = LONGEST_NAME) -> str:
    """A name as a figure shows it: as text, in one line, and not too long.

    Args:
        name: Of a class, a covariate, a sample.
        longest: In characters; of a longer one the middle is left out.

    Example:
        >>> shown_name("<b>CRP</b> & co")
        '&lt;b&gt;CRP&lt;/b&gt; &amp; co'
        >>> shown_name("neutrophil-to-lymphocyte ratio", 16)
        'neutroph…e ratio'
    """
    return _as_text(_shortened(name, longest))


def shown_names(names: Iterable[object], longest: int = LONGEST_NAME) -> list[str]:
    """Names as a figure shows them, all of them different: on an axis equal ones would be one.

    Args:
        names: N different ones.
        longest: In characters.

    Returns:
        N texts.

    Example:
        >>> shown_names(["mass of the liver", "mass of the river"], 9)
        ['mass…iver', 'mass…iver (2)']
    """
    found: dict[str, None] = {}
    for name in names:
        short = text = _shortened(name, longest)
        number = 1
        while text in found:
            number += 1
            text = NUMBERED.format(short, number)
        found[text] = None
    return [_as_text(text) for text in found]


def _shortened(name: object, longest: int) -> str:
    text = " ".join(str(name).split())
    if len(text) <= longest:
        return text
    ending = (longest - 1) // 2
    return text[: longest - 1 - ending] + ELLIPSIS + text[len(text) - ending :]


def _as_text(text: str) -> str:
    """What Plotly would read as a tag, an entity or a place in a hover text, as characters."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("%{", "%&#123;")

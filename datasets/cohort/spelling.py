"""Names that differ by their spelling only: P001 and p001, 1 and 1.0."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable

# Zeros before a number, but not behind a decimal point.
LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
NO_FRACTION = re.compile(r"(?<=\d)\.0+$")


def plain_spelling(name: str) -> str:
    """A name without what spelling alone may change.

    Case, blanks, leading zeros, a fraction of zero, and forms of one character in Unicode.

    Example:
        >>> plain_spelling("P 001") == plain_spelling("p1"), plain_spelling("101.0")
        (True, '101')
    """
    text = unicodedata.normalize("NFKC", name)
    seen = (letter for letter in text if unicodedata.category(letter) not in ("Cf", "Cc"))
    text = "".join("".join(seen).casefold().split())
    return LEADING_ZEROS.sub("", NO_FRACTION.sub("", text))


def find_spellings(names: Iterable[str]) -> list[list[str]]:
    """Sets of names that differ by their spelling only, each sorted.

    Example:
        >>> find_spellings(["P001", "p001", "P002"])
        [['P001', 'p001']]
    """
    spellings = defaultdict(set)
    for name in names:
        spellings[plain_spelling(name)].add(name)
    return sorted(sorted(found) for found in spellings.values() if len(found) > 1)


def spelled_alike(names: Collection[str], others: Collection[str]) -> tuple[str, str] | None:
    """A name and one of the others that differ by their spelling only; None where there are none.

    Example:
        >>> spelled_alike(["001", "002"], ["2", "9"])
        ('002', '2')
    """
    other_of = {plain_spelling(name): name for name in others if name not in names}
    for name in names:
        other = other_of.get(plain_spelling(name))
        if name not in others and other is not None:
            return name, other
    return None

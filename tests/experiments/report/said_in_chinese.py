"""What a Chinese page would still say in English."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from experiments.report.words import Words
from tests.experiments.report.opened_page import LATIN

# Keys and values of a configuration, which are written as they are.
SETTINGS = ("data.group", "data.numeric", "data.categorical", "tic")
NUMBER = re.compile(r"\d+(?:\.\d+)?%?")


def english_left(texts: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Texts whose Chinese holds an English word, or other numbers.

    Args:
        texts: As they are made.
        names: Of the user's.

    Returns:
        Text -> what is said instead.
    """
    known = set(names)
    words = Words("zh", known)
    kept = sorted({*known, *LATIN, *SETTINGS}, key=len, reverse=True)
    named = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in kept), re.ASCII)
    said = {text: words.translate(text) for text in texts}
    return {
        text: chinese
        for text, chinese in said.items()
        if re.search("[A-Za-z]{2,}", named.sub("", chinese))
        or Counter(NUMBER.findall(text)) != Counter(NUMBER.findall(chinese))
    }

"""The page's messages in English and in Chinese; the user's names stay as they are."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from datasets.cohort import SAMPLE_ID, Cohort
from datasets.errors import UsageError, nearest
from datasets.messages import Message
from experiments.config import read_yaml

if TYPE_CHECKING:
    import plotly.graph_objects as go

WORDS_FILE = Path(__file__).with_name("words.zh.yaml")
# Language -> what the page's element says of it.
LANGUAGES = {"en": "en", "zh": "zh-CN"}
# Where the values of a Chinese phrase stand: the next one, or a certain one.
PLACES = re.compile(r"\{(\d*)\}")
SEPARATOR = "\N{IDEOGRAPHIC COMMA}"
CHINESE = re.compile("[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")
# A full stop, as wide as a character, needs no space behind it.
FULL_STOP = "\N{IDEOGRAPHIC FULL STOP}"

# A column of more values does not sort samples into kinds.
MOST_VALUES = 50


@functools.cache
def read_words() -> dict[str, str]:
    """English phrase -> Chinese phrase."""
    words: dict[str, str] = read_yaml(WORDS_FILE.read_text("utf-8"), WORDS_FILE.name)
    return words


class Words:
    """Says messages in both languages; the page shows one, and its script changes it.

    A plain text that is a whole phrase of the catalogue is a message, too, unless it is one of the
    user's ``names``.
    """

    def __init__(self, language: str = "en", names: Collection[str] = ()) -> None:
        if language not in LANGUAGES:
            raise UsageError(f"no language is called '{language}'{nearest(language, LANGUAGES)}")
        self.language = language
        self.names = frozenset(names)

    @property
    def tag(self) -> str:
        """The language, as HTML names it."""
        return LANGUAGES[self.language]

    def translate(self, text: str) -> str:
        """A text in the page's language."""
        return text if self.language == "en" else self.chinese(text)

    def chinese(self, text: str) -> str:
        """A text in Chinese; as it is where the catalogue does not have it."""
        if isinstance(text, Message):
            return _in_chinese(text)
        return text if text in self.names else read_words().get(text, text)

    def found_in(self, value: Any) -> dict[str, str]:
        """The messages within a figure's data and layout: English -> Chinese."""
        if isinstance(value, Message):
            return {str(value): self.chinese(value)}
        if isinstance(value, dict):
            value = value.values()
        elif isinstance(value, np.ndarray):
            value = value.tolist() if value.dtype == object else []
        elif not isinstance(value, (list, tuple)):
            return {}
        return {text: said for one in value for text, said in self.found_in(one).items()}

    def for_script(self, title: str, figures: Iterable[go.Figure | None]) -> Markup:
        """What the script of a page with a choice of the language knows, as JSON.

        ``title`` is a message of one value, a name.
        """
        assert isinstance(title, Message)
        drawn = [figure.to_plotly_json() for figure in figures if figure is not None]
        known = {
            "heading": title.phrase,
            "title": title.values[0],
            "language": self.language,
            "names": sorted(self.names),
            "words": read_words() | self.found_in(drawn),
        }
        # No "<" can end the script's element.
        return Markup(json.dumps(known, ensure_ascii=False).replace("<", "\\u003c"))

    def say(self, phrase: str, *values: object) -> Markup:
        """A phrase of the page's own with its values, as an element."""
        return self.element(Message(phrase, *values))

    def element(self, text: str) -> Markup:
        """A text, as an element that holds it in both languages."""
        chinese = self.chinese(text)
        if chinese == text:
            return escape(str(text))
        shown = self.translate(text)
        return Markup('<span data-en="{}" data-zh="{}">{}</span>').format(text, chinese, shown)

    def attribute(self, name: str, text: str) -> Markup:
        """An attribute (``aria-label``) that follows the language."""
        return Markup('{0}="{1}" data-en-{0}="{2}" data-zh-{0}="{3}"').format(
            name, self.translate(text), text, self.chinese(text)
        )


def _in_chinese(value: object) -> str:
    """A message, or a value of one; what is no message is a name or a number."""
    if isinstance(value, list):
        return SEPARATOR.join(map(_in_chinese, value))
    if not isinstance(value, Message):
        return str(value)
    phrase = read_words().get(value.phrase, value.phrase)
    given = list(map(_in_chinese, value.values))
    if not given:
        return phrase
    in_turn = iter(given)
    filled, at = "", 0
    for place in PLACES.finditer(phrase):
        inner = given[int(place[1])] if place[1] else next(in_turn)
        filled = _joined(_joined(filled, phrase[at : place.start()]), inner)
        at = place.end()
    return _joined(filled, phrase[at:])


def _joined(left: str, right: str) -> str:
    """One behind the other; a space parts Chinese from Latin letters, not Chinese from Chinese."""
    if CHINESE.fullmatch(left[-1:]) and CHINESE.match(right, 1) and right[0] == " ":
        return left + right[1:]
    before = left[-2:-1] if left[-1:] == " " else ""
    if right and (before == FULL_STOP or (CHINESE.fullmatch(before) and CHINESE.match(right))):
        return left[:-1] + right
    return left + right


def names_of_kinds(cohort: Cohort) -> set[str]:
    """Values of the columns that sort samples: names of plates, sites, sexes."""
    table = cohort.samples.drop(columns=[SAMPLE_ID, *cohort.numeric])
    kinds = (table[column].dropna().astype(str).unique() for column in table)
    return {name for names in kinds if len(names) <= MOST_VALUES for name in names}

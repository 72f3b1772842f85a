"""The phrases of the run's page in English and in Chinese; the user's names stay as they are."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from datasets.errors import UsageError, nearest
from experiments.config import read_yaml

WORDS_FILE = Path(__file__).with_name("words.zh.yaml")
# Language -> what the page's element says of it.
LANGUAGES = {"en": "en", "zh": "zh-CN"}
# Where the values of a Chinese phrase stand: the next one, a certain one, or a list of any length.
PLACES = re.compile(r"\{(\d*)\}|\[\[.+?\]\]")
LISTED = re.compile(r"\[\[(.+?)\]\]")
# Those of an English phrase, and what can stand there: any text, which is translated in its turn, a
# name, a number, or a phrase of the catalogue.
ENGLISH_PLACES = re.compile(r"\[\[(?P<item>.+?)\]\]|\{(?P<kind>name|number|phrase|)\}")
NAME, PHRASE = "name", "phrase"
KINDS = {
    "": r"(.*?)",
    NAME: r"(.*?)",
    "number": r"((?:[-+]?(?:\d+(?:[.,]\d+)*(?:e[-+]?\d+)?|inf)|nan)%?|undefined)",
    PHRASE: r"(.*?)",
}
SEPARATOR, CHINESE_SEPARATOR = ", ", "\N{IDEOGRAPHIC COMMA}"
CHINESE = re.compile("[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")
# Between sentences, not within "et al. 2017"; a translated one needs no space behind it.
BETWEEN_SENTENCES = re.compile(r"((?<=\.)(?<!\bal\.)\s+(?=[A-Z0-9]))")


@functools.cache
def read_words() -> dict[str, str]:
    """English phrase -> Chinese phrase, both with places as the catalogue's head explains them."""
    words: dict[str, str] = read_yaml(WORDS_FILE.read_text("utf-8"), WORDS_FILE.name)
    return words


class Words:
    """Says the page's phrases in one language.

    A text that is made elsewhere (a figure's axis, a sentence with numbers in it) is found by the
    phrase that it was filled from; the browser does the same when the reader changes the language
    (``report_words.js``).

    Args:
        language: A key of ``LANGUAGES``.
        names: Of the user's: never translated, though they be words of the page.

    Raises:
        UsageError: The language is not one of them.

    Example:
        >>> words = Words("zh", names=["training"])
        >>> words.say("scan {}", 3)
        '扫描 3'
        >>> words.translate("validation"), words.translate("training")
        ('验证集', 'training')
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

    def say(self, phrase: str, *values: object) -> str:
        """A phrase of the catalogue with its values."""
        if self.language == "en":
            return _fill(phrase, values)
        said = [self.translate(v) if isinstance(v, str) else v for v in values]
        return _fill(read_words().get(phrase, phrase), said)

    def translate(self, text: str) -> str:
        """A whole text, or each of its sentences; what no phrase fits stays as it is."""
        if self.language == "en" or not text or text in self.names:
            return text
        parts = BETWEEN_SENTENCES.split(text)
        sentences, spaces = parts[::2], [*parts[1::2], ""]
        said = [self._of_phrase(sentence) for sentence in sentences]
        # Several sentences may be one phrase, where they are not known each by itself.
        if len(sentences) > 1 and None in said:
            whole = self._of_phrase(text)
            if whole is not None:
                return whole
        return "".join(
            sentence + space if found is None else found
            for sentence, space, found in zip(sentences, spaces, said, strict=True)
        )

    def _of_phrase(self, text: str) -> str | None:
        trimmed = text.strip()
        if trimmed in read_words():
            return read_words()[trimmed]
        for pattern in _patterns():
            match = pattern.regex.match(trimmed)
            said = None if match is None else self._refilled(pattern, match)
            if said is not None:
                return said
        return None

    def _refilled(self, pattern: _Pattern, match: re.Match[str]) -> str | None:
        """The Chinese phrase with what stood in the English one; None where that does not fit."""
        said = []
        for kind, text in zip(pattern.kinds, match.groups(), strict=False):
            found = self._value(kind, text)
            if found is None:
                return None
            said.append(found)
        return _fill(pattern.chinese, said)

    def _value(self, kind: str | _Pattern, text: str) -> str | None:
        if isinstance(kind, _Pattern):
            return self._list(kind, text)
        if kind == NAME:
            return text
        return self._of_phrase(text) if kind == PHRASE else self.translate(text)

    def _list(self, item: _Pattern, text: str) -> str | None:
        said, at = [], 0
        while at < len(text):
            match = item.regex.match(text, at)
            found = None if match is None else self._refilled(item, match)
            if match is None or found is None:
                return None
            said.append(found)
            at = match.end()
        return CHINESE_SEPARATOR.join(said)

    # -- for templates ----------------------------------------------------------------------

    def element(self, phrase: str, *values: object) -> Markup:
        """A phrase that the reader can have in the other language, as an element."""
        return Markup("<span {}>{}</span>").format(
            self.marked(phrase, *values), self.say(phrase, *values)
        )

    def marked(self, phrase: str, *values: object) -> Markup:
        """The attributes by which the browser knows what an element's text was made from."""
        if not values:
            return Markup('data-t="{}"').format(phrase)
        plain = [value if isinstance(value, (int, float)) else str(value) for value in values]
        return Markup('data-t="{}" data-v="{}"').format(phrase, json.dumps(plain))

    def attribute(self, name: str, phrase: str) -> Markup:
        """An attribute (``aria-label``) that follows the language."""
        return Markup('{0}="{1}" data-t-{0}="{2}"').format(name, self.say(phrase), phrase)

    def sentence(self, text: str) -> Markup:
        """A text that was filled elsewhere, as an element."""
        return Markup('<span data-s="{}">{}</span>').format(text, self.translate(text))


def _fill(phrase: str, values: Iterable[object]) -> str:
    given = [str(value) for value in values]
    if not given:
        return phrase
    in_turn = iter(given)
    filled, at = "", 0
    for place in PLACES.finditer(phrase):
        value = given[int(place[1])] if place[1] else next(in_turn)
        filled = _joined(_joined(filled, phrase[at : place.start()]), value)
        at = place.end()
    return _joined(filled, phrase[at:])


def _joined(left: str, right: str) -> str:
    """One behind the other; a space parts Chinese from Latin letters, not Chinese from Chinese."""
    if CHINESE.fullmatch(left[-1:]) and CHINESE.match(right, 1) and right[0] == " ":
        return left + right[1:]
    if left[-1:] == " " and CHINESE.fullmatch(left[-2:-1]) and CHINESE.match(right):
        return left[:-1] + right
    return left + right


class _Pattern(NamedTuple):
    """A phrase with places.

    Attributes:
        regex: What the filled phrase looks like, one group per place.
        chinese: The other language's.
        kinds: Of the places: a key of ``KINDS``, or how an item of a list looks.
    """

    regex: re.Pattern[str]
    chinese: str
    kinds: tuple[str | _Pattern, ...]


@functools.cache
def _patterns() -> list[_Pattern]:
    """Phrases with places: those around other phrases, then those with most words of their own."""
    phrases = [phrase for phrase in read_words() if ENGLISH_PLACES.search(phrase)]
    phrases.sort(key=lambda p: (f"{{{PHRASE}}}" not in p, -len(ENGLISH_PLACES.sub("", p))))
    return [_pattern(phrase, read_words()[phrase]) for phrase in phrases]


def _pattern(english: str, chinese: str, is_item: bool = False) -> _Pattern:
    items = iter(LISTED.findall(chinese))
    body, at = "", 0
    kinds: list[str | _Pattern] = []
    for place in ENGLISH_PLACES.finditer(english):
        item, kind = place["item"], place["kind"] or ""
        body += re.escape(english[at : place.start()]) + KINDS[kind]
        kinds.append(kind if item is None else _pattern(item, next(items), is_item=True))
        at = place.end()
    body += re.escape(english[at:])
    # A name may hold a separator, too: what stands behind one has to look like an item.
    end = rf"(?:{SEPARATOR}(?={body})|\Z)" if is_item else r"\Z"
    return _Pattern(re.compile(body + end, re.S), chinese, tuple(kinds))

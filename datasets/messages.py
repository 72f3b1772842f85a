"""Texts that keep the phrase and the values they were filled from, to be said in any language."""

from __future__ import annotations

from typing import Any


class Message(str):
    """A text filled from a phrase, which the catalogue of another language can fill, too.

    ``phrase``, its id, has a ``{}`` for each of ``values``: numbers, names (which stay as they
    are), messages, or lists of these.
    """

    phrase: str
    values: tuple[Any, ...]

    def __new__(cls, phrase: str, *values: Any) -> Message:
        """Fill the phrase; without values it is the text."""
        text = phrase.format(*map(_text, values)) if values else phrase
        made = super().__new__(cls, text)
        made.phrase, made.values = phrase, values
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:  # type: ignore[override]
        """What pickles and copies are made of."""
        return (self.phrase, *self.values)

    @property
    def capitalized(self) -> Message:
        """The same with a capital; its phrase is another one."""
        if not self.phrase.startswith("{}"):
            return Message(_with_capital(self.phrase), *self.values)
        first, *others = self.values
        capital = first.capitalized if isinstance(first, Message) else _with_capital(first)
        return Message(self.phrase, capital, *others)


def sentences(*parts: str) -> Message:
    """Sentences behind each other; empty ones are left out."""
    told = [part if isinstance(part, Message) else Message(part) for part in parts if part]
    return told[0] if len(told) == 1 else Message(" ".join(["{}"] * len(told)), *told)


def to_plain(value: Any) -> Any:
    """A text as JSON can keep it: a message by its phrase and its values."""
    if isinstance(value, Message):
        return {"phrase": value.phrase, "values": [to_plain(one) for one in value.values]}
    return [to_plain(one) for one in value] if isinstance(value, list) else str(value)


def from_plain(value: Any) -> Any:
    """The inverse of :func:`to_plain`."""
    if isinstance(value, dict):
        return Message(value["phrase"], *(from_plain(one) for one in value["values"]))
    return [from_plain(one) for one in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _with_capital(text: str) -> str:
    return text[:1].upper() + text[1:]

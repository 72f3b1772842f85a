"""Numbers as text for the console, tables, cards and pages."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from datasets.messages import Message

if TYPE_CHECKING:
    from engine.statistics import Interval

UNDEFINED_TEXT, TOO_FEW_TEXT = Message("undefined"), "too few samples"
# Decimals of a number from 0.01 to 10; others have about as many digits.
DIGITS, SHORT_DIGITS = 4, 3
# Below the first and from the second on, a number is written with an exponent.
SMALLEST_PLAIN, LARGEST_PLAIN = 1e-3, 1e6
# Significant digits of bounds, relative to their distance; the value has one more.
BOUND_DIGITS = 3
# Figures up to 1 (shares, areas) have one less, but at least so many decimals.
SHARE_DECIMALS = 3
# A floating-point number has no more significant digits.
MOST_DIGITS = 15
# A metric of one of several regression targets.
TARGET = re.compile(r"(\w+)\[(.*)\]", re.DOTALL)
# Smaller p-values are written as below it.
SMALLEST_P = 1e-4


class FigureTexts(NamedTuple):
    """A figure and its bounds as texts; missing bounds are empty."""

    value: str
    low: str = ""
    high: str = ""


def figure_text(value: float, digits: int = DIGITS, sign: str = "") -> str:
    """Write a number with its significant digits: so many decimals from 0.01 to 10."""
    if math.isnan(value):
        return UNDEFINED_TEXT
    if value == 0:
        return "0"
    if math.isinf(value) or not SMALLEST_PLAIN <= abs(value) < LARGEST_PLAIN:
        return f"{value:{sign}.{digits - 1}e}"
    place = _place(value)
    decimals = digits - place if place > 0 else max(digits, digits - 2 - place)
    return f"{value:{sign}.{max(0, decimals)}f}"


def figure_texts(figure: Interval, sign: str = "") -> FigureTexts:
    """Write a figure and its bounds, with digits by the distance of the bounds."""
    value, low, high = figure.value, figure.low, figure.high
    distance = high - low
    if math.isnan(value) or not math.isfinite(distance):
        return FigureTexts(figure_text(value, sign=sign))
    if distance == 0:
        return FigureTexts(*(figure_text(number, sign=sign) for number in (value, low, high)))
    top = max(abs(value), abs(low), abs(high))
    decimals = BOUND_DIGITS - 1 - _place(distance)
    plain = SMALLEST_PLAIN <= top < LARGEST_PLAIN
    if plain and top <= 1:
        decimals = max(decimals - 1, SHARE_DECIMALS)
    decimals = min(decimals, MOST_DIGITS - 2 - _place(top))
    figures = ((value, decimals + 1), (low, decimals), (high, decimals))
    return FigureTexts(*(_rounded(number, more, plain, sign) for number, more in figures))


def bounds_text(figure: Interval, sign: str = "") -> str:
    """The bounds of a figure, or a note that the samples are too few; else empty."""
    if figure.too_few and not math.isnan(figure.value):
        return TOO_FEW_TEXT
    _, low, high = figure_texts(figure, sign)
    return f"{low} to {high}" if low else ""


def with_bounds(figure: Interval, sign: str = "") -> Message:
    """A figure with its interval, if any, in brackets: ``0.7500 (0.500 to 1.000)``."""
    value, low, high = figure_texts(figure, sign)
    if low:
        return Message("{} ({} to {})", value, low, high)
    if figure.too_few and not math.isnan(figure.value):
        return Message(f"{{}} ({TOO_FEW_TEXT})", value)
    return Message("{}", value)


def share_text(share: float, decimals: int = DIGITS) -> str:
    """Write a share or a probability, with more decimals where it would look like 0 or 1."""
    if math.isnan(share):
        return UNDEFINED_TEXT
    text = f"{share:.{decimals}f}"
    if float(text) not in (0, 1) or share in (0, 1) or not 0 < share < 1:
        return text
    return f"{share:.1e}" if share < 0.5 else f"{share:.{-_place(1 - share)}f}"


def metric_message(name: str) -> Message:
    """The name of a metric, a message whose target or demand is a value."""
    target, demand = TARGET.fullmatch(name), name.partition("@")
    if target:
        return Message(f"{target[1]}[{{}}]", target[2])
    return Message(f"{demand[0]}@{{}}", demand[2]) if demand[1] else Message(name)


def p_text(p_value: float) -> str:
    """Write a p-value."""
    if math.isnan(p_value):
        return UNDEFINED_TEXT
    return f"< {SMALLEST_P:.4f}" if p_value < SMALLEST_P else f"{p_value:.4f}"


def _place(number: float) -> int:
    """The power of ten of a number's first digit."""
    return math.floor(math.log10(abs(number)))


def _rounded(number: float, decimals: int, plain: bool, sign: str) -> str:
    """A number to so many decimals; with an exponent unless ``plain``."""
    rounded = round(number, decimals) + 0.0  # no -0
    if plain:
        return f"{rounded:{sign}.{max(0, decimals)}f}"
    if rounded == 0:
        return "0"
    return f"{rounded:{sign}.{max(0, decimals + _place(rounded))}e}"

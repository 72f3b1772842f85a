from __future__ import annotations

import math

import pytest

from engine.reporting.figure_format import (
    FigureTexts,
    bounds_text,
    figure_text,
    figure_texts,
    metric_message,
    p_text,
    share_text,
    with_bounds,
)
from engine.statistics import Interval

UNITS = [1e-12, 1e-9, 1.7e-5, 1e-4, 0.003, 0.9, 8.0, 4321.0, 2e5, 1e9, 3e20]


@pytest.mark.parametrize("unit", UNITS)
def test_a_number_keeps_three_digits_whatever_its_unit(unit):
    for value in (1.2345 * unit, -7.891 * unit):
        text = figure_text(value)
        assert float(text) == pytest.approx(value, rel=5e-3)
        assert len(text) <= 11


@pytest.mark.parametrize("unit", UNITS)
def test_bounds_are_apart_whatever_their_unit(unit):
    figure = Interval(1.7 * unit, 1.2 * unit, 2.6 * unit)
    value, low, high = (float(text) for text in figure_texts(figure))
    assert value == pytest.approx(1.7 * unit, rel=0.01)
    assert low == pytest.approx(1.2 * unit, rel=0.05)
    assert high == pytest.approx(2.6 * unit, rel=0.05)


def test_bounds_close_to_a_large_number_are_apart():
    assert with_bounds(Interval(1e9, 1e9 - 3, 1e9 + 4)) == (
        "1.000000000000e+09 (9.9999999700e+08 to 1.00000000400e+09)"
    )
    assert with_bounds(Interval(1234.5, 1234.41, 1234.62)) == "1234.5000 (1234.410 to 1234.620)"


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Interval(0.9529, 0.912, 0.983), "0.9529 (0.912 to 0.983)"),
        (Interval(0.0), "0"),
        (Interval(1.0), "1.0000"),
        (Interval(0.0, 0.0, 0.309), "0.0000 (0.000 to 0.309)"),
        (Interval(0.5, 0.5, 0.5), "0.5000 (0.5000 to 0.5000)"),
        (Interval(math.nan), "undefined"),
        (Interval(math.inf), "inf"),
        (Interval(-28.123), "-28.123"),
        (Interval(0.8, method="too_few"), "0.8000 (too few samples)"),
    ],
)
def test_figures_look_as_people_write_them(figure, text):
    assert with_bounds(figure) == text


def test_a_difference_shows_its_sign():
    figure = Interval(1e-5, -2e-5, 4e-5)
    assert with_bounds(figure, "+") == "+1.000e-05 (-2.00e-05 to +4.00e-05)"
    assert bounds_text(Interval(0.0, -0.01, 0.01), "+") == "-0.010 to +0.010"


@pytest.mark.parametrize("share", [0.0, 1.0, 0.5, 0.9999999, 1e-9, 0.99951])
def test_a_share_never_looks_certain_that_is_not(share):
    assert (float(share_text(share, 2)) in (0, 1)) == (share in (0, 1))


def test_figures_are_written_with_their_bounds():
    small = figure_texts(Interval(1.728467e-05, 1.1362e-05, 2.51038e-05))
    assert small == FigureTexts("1.728e-05", "1.14e-05", "2.51e-05")
    assert bounds_text(Interval(0.75, 0.5, 1.0)) == "0.500 to 1.000"
    assert bounds_text(Interval(1.0, method="too_few")) == "too few samples"
    assert with_bounds(Interval(0.75, 0.5, 1.0)) == "0.7500 (0.500 to 1.000)"
    assert with_bounds(Interval(0.25), "+") == "+0.2500"


def test_a_share_near_an_end_does_not_look_like_it():
    texts = [share_text(share, 2) for share in (0.5, 1.0, 0.9996, 0.00004)]
    assert texts == ["0.50", "1.00", "0.9996", "4.0e-05"]


def test_a_small_p_value_is_written_as_below():
    assert [p_text(p) for p in (0.0312, 3e-9, float("nan"))] == ["0.0312", "< 0.0001", "undefined"]


def test_a_metrics_target_is_a_value_of_its_message():
    assert metric_message("mae[age]").phrase == "mae[{}]"
    assert metric_message("auroc").phrase == "auroc"


def test_a_number_has_its_significant_digits():
    values = (0.9602, 0.001728, 1.7284e-05, 34569.349, 1.9371e9, 0.0)
    texts = ["0.9602", "0.00173", "1.728e-05", "34569", "1.937e+09", "0"]
    assert [figure_text(value) for value in values] == texts
    assert figure_text(0.51234, 3) == "0.512"
    assert figure_text(0.25, sign="+") == "+0.2500"
    assert figure_text(float("nan")) == "undefined"
    wide = figure_texts(Interval(34569.3, 22724.7, 50207.6))
    assert wide == FigureTexts("34570", "22700", "50200")

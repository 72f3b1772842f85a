from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datasets.errors import UsageError
from datasets.specs import build_each, require_choice, require_number, require_range, require_whole


class Square:
    def __init__(self, side: float, colour: str = "red") -> None:
        self.side, self.colour = side, colour


class Anything:
    def __init__(self, **params: object) -> None:
        self.params = params


SHAPES = {"square": Square, "anything": Anything}


def test_specs_are_built_in_order_from_names_and_classes():
    built: list[Any] = build_each(
        "shape",
        SHAPES,
        [
            {"name": "square", "params": {"side": 2}},
            "anything",
            {"name": Square, "params": {"side": 3, "colour": "blue"}},
            {"name": "anything", "params": {"x": 1}},
            {"name": "anything", "params": None},
        ],
    )
    assert [type(thing) for thing in built] == [Square, Anything, Square, Anything, Anything]
    assert built[2].colour == "blue"
    assert built[3].params == {"x": 1}


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        (["sqare"], "unknown shape 'sqare'; did you mean 'square'? (choices: square, anything)"),
        ([3], "unknown shape 3 (choices: square, anything)"),
        (["square"], "shape 'square' needs the parameter 'side'"),
        (
            [{"name": "square", "params": {"side": 1, "color": "red"}}],
            "shape 'square' has no parameter 'color'; did you mean 'colour'? "
            "(choices: side, colour)",
        ),
        (
            [{"name": "square", "parms": {}}],
            "shape: unknown key 'parms' in {'name': 'square', 'parms': {}}; did you mean 'params'? "
            "(choices: name, params)",
        ),
        ([{"params": {"side": 1}}], "unknown shape None (choices: square, anything)"),
        (
            [{"name": "square", "params": [1]}],
            "params of shape 'square': a mapping was expected, not [1]",
        ),
        ("square", "shapes: a list was expected, as [square], not 'square'"),
        ({"name": "square"}, "shapes: a list was expected, as [square], not {'name': 'square'}"),
    ],
)
def test_a_spec_that_cannot_be_built_is_named_in_one_line(specs, said):
    with pytest.raises(UsageError) as error:
        build_each("shape", SHAPES, specs)
    assert str(error.value) == said


def test_an_error_of_a_constructor_is_not_hidden():
    class Broken:
        def __init__(self) -> None:
            raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        build_each("shape", SHAPES, [Broken])


@pytest.mark.parametrize("value", [-0.1, 1.5, "0.5", True, None, float("nan"), [0.5]])
def test_what_is_no_number_within_the_bounds_is_refused(value):
    with pytest.raises(UsageError, match=r"x\.p: a number between 0 and 1 was expected, not"):
        require_number("x.p", value, 0.0, 1.0)


def test_infinity_is_refused_without_an_upper_bound():
    with pytest.raises(UsageError, match=r"x\.std: a number at least 0 was expected, not inf"):
        require_number("x.std", float("inf"))


@pytest.mark.parametrize("value", [0, 8, 2.5, "3", True, None, float("nan"), float("inf"), [3]])
def test_what_is_no_whole_number_within_the_bounds_is_refused(value):
    with pytest.raises(UsageError, match=r"x\.n: a whole number between 1 and 7 was expected, not"):
        require_whole("x.n", value, 1, 7)


def test_a_whole_number_may_be_written_with_a_point():
    assert isinstance(require_whole("x.n", 3.0), int)


def test_a_number_without_bounds_is_asked_for_without_them():
    assert require_number("x.low", -5, -np.inf) == -5
    with pytest.raises(UsageError, match=r"x\.low: a number was expected, not 'a'"):
        require_number("x.low", "a", -np.inf)


def test_an_invalid_choice_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"x\.fill: there is no 'zeros'; did you mean 'zero'\?"):
        require_choice("x.fill", "zeros", ["baseline", "zero"])
    with pytest.raises(UsageError, match=r"x\.fill: there is no 3 \(choices: baseline, zero\)"):
        require_choice("x.fill", 3, ["baseline", "zero"])


def test_numbers_outside_their_range_are_refused():
    require_range("gamma", 0, 0, 1)
    outside: list[Any] = [(1, False), (-0.1, False), (0, True), ("2", False), (True, False)]
    for value, open_low in outside:
        with pytest.raises(UsageError, match="gamma: a number"):
            require_range("gamma", value, 0, 1, open_low)

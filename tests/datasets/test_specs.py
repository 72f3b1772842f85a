from __future__ import annotations

from typing import Any

import pytest

from datasets.errors import UsageError
from datasets.specs import build_each, require_number


class Square:
    def __init__(self, side: float, colour: str = "red") -> None:
        self.side, self.colour = side, colour


class Anything:
    def __init__(self, **params: object) -> None:
        self.params = params


SHAPES = {"square": Square, "anything": Anything}


def test_things_are_built_in_order_from_names_classes_and_parameters():
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

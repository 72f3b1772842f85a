from __future__ import annotations

import pytest

from datasets.errors import nearest


@pytest.mark.parametrize(
    ("name", "choices", "hint"),
    [
        ("age", ["stage", "Age", "sex"], "Age"),
        ("CONTROL", ["case", "control"], "control"),
        ("stag", ["Age", "stage"], "stage"),
        ("m", ["F", "M"], "M"),
    ],
)
def test_the_nearest_may_be_written_in_other_case(name, choices, hint):
    assert nearest(name, choices) == f"; did you mean '{hint}'? (choices: {', '.join(choices)})"


def test_without_a_close_name_there_are_only_the_choices():
    assert nearest("xyz", ["Age", "sex"]) == " (choices: Age, sex)"
    assert nearest("xyz", []) == " (choices: none)"

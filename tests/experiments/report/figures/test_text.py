from __future__ import annotations

import plotly.graph_objects as go
import pytest

from experiments.report.figures.text import LONGEST_NAME, shown_name, shown_names
from tests.experiments.report.made_report import NASTY


@pytest.mark.parametrize("name", NASTY)
def test_no_name_holds_what_plotly_would_read_as_markup(name):
    shown = shown_name(name)
    assert "<" not in shown
    assert "%{" not in shown
    assert go.Figure(go.Scatter(y=[1], name=shown)).data[0].name == shown


def test_a_long_name_keeps_both_its_ends_and_a_short_one_all():
    assert shown_name("CRP") == "CRP"
    shown = shown_name("a" * 200 + "b" * 200)
    assert len(shown) == LONGEST_NAME
    assert shown.startswith("aaa")
    assert shown.endswith("bbb")


def test_lines_of_a_name_become_one():
    assert shown_name("two\n lines") == "two lines"


def test_names_that_are_cut_alike_stay_different():
    names = ["x" * 100 + str(n % 2) + "y" * 100 for n in range(2)]
    shown = shown_names([*names, "z"])
    assert len(set(shown)) == 3
    assert shown[1] == f"{shown[0]} (2)"

from __future__ import annotations

import re

import plotly.graph_objects as go
import pytest

from datasets.errors import UsageError
from experiments.report.figures.figure_page import (
    LONGEST_NAME,
    Section,
    figure_div,
    shown_name,
    shown_names,
    write_figure_page,
)
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


@pytest.fixture
def page(tmp_path):
    """A page with a figure, a table and a text that is no markup."""
    sections = [
        Section("first", "Curve", go.Figure(go.Scatter(y=[1, 2]))),
        Section("second", "Numbers", table=[("name", "value"), ("<b>a</b>", 3)]),
        Section("third", "Words", text="1 < 2 & so on"),
    ]
    return write_figure_page(tmp_path / "page.html", "A <title>", "A lead.", sections)


def test_the_page_stands_by_itself_and_offers_no_upload(page):
    text = page.read_text("utf-8")
    assert text.count("plotly.js v") == 1
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", text)
    assert text.count('"showSendToCloud": false') == 1
    assert 'id="figure-first"' in text


def test_what_is_given_is_text_never_markup(page):
    text = page.read_text("utf-8")
    assert "A &lt;title&gt;" in text
    assert "&lt;b&gt;a&lt;/b&gt;" in text
    assert "1 &lt; 2 &amp; so on" in text
    figure = go.Figure(go.Scatter(y=[1], name="<script>alert(1)</script>"))
    assert "<script>alert" not in str(figure_div("x", figure))


def test_a_page_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write .*page.html"):
        write_figure_page(tmp_path / "missing" / "page.html", "t", "l", [])

from __future__ import annotations

from experiments.report.figures.figure_page import shown_name, shown_names
from experiments.report.figures.importance import share_text


def test_a_share_that_rounds_to_zero_has_no_sign():
    assert [share_text(-0.0001, 0), share_text(-0.12, 0)] == ["0%", "-12%"]


def test_a_name_in_a_figure_is_escaped_and_short():
    assert shown_name("<b>CRP</b> & co") == "&lt;b&gt;CRP&lt;/b&gt; &amp; co"
    assert shown_name("neutrophil-to-lymphocyte ratio", 16) == "neutroph…e ratio"
    assert shown_names(["mass of the liver", "mass of the river"], 9) == [
        "mass…iver",
        "mass…iver (2)",
    ]

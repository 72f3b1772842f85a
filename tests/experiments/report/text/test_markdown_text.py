from __future__ import annotations

import re

import pytest

from experiments.report.text.markdown_text import escape_markdown, fenced

NAMES = [
    "a|b",
    "CRP_max",
    "*bold*",
    "`code`",
    "[x](y)",
    "<b>",
    "a\\",
    "&amp;",
    "#1",
    "~~s~~",
    "$x$",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_control_character_is_escaped_and_nothing_is_lost(name):
    escaped = escape_markdown(name)
    assert re.sub(r"\\(.)", r"\1", escaped) == name
    assert not re.search(r"[\\`*_\[\]<>|~#$&!]", re.sub(r"\\.", "", escaped))


def test_a_name_stays_in_its_line():
    assert escape_markdown("two\n# lines\r\n") == "two \\# lines"


def test_code_that_holds_a_fence_does_not_end_its_block():
    block = fenced("a: ```\nb: ````\n", "yaml")
    assert block.splitlines() == ["`````yaml", "a: ```", "b: ````", "`````"]

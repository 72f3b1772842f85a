"""The map of the packages is today's, and the walks name files that exist."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.docs.test_code_map import check_place

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PLACE = re.compile(r"`([\w/]+\.(?:py|cfg|md)(?:::[\w.]+)?)`")


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text("utf-8")


def test_the_map_is_drawn_from_todays_imports(text):
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))
    assert drawing["write_map"](text) == text, "run: python docs/draw_architecture.py"
    edges = drawing["read_imports"]().edges
    assert ("engine.trainer", "engine.steps") in edges
    assert ("engine.steps", "engine.trainer") not in edges  # for annotations alone


@pytest.mark.parametrize("walk", ["One batch", "One setting"])
def test_each_step_of_a_walk_names_a_place_that_exists(text, walk):
    (section,) = re.findall(rf"^## {walk}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        places = PLACE.findall(row.split(" | ")[-1])
        assert places, row
        for place in places:
            check_place(place)

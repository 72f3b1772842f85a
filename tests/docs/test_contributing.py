"""CONTRIBUTING.md names the packages and files that there are."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.test_code_map import check_place

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("datasets", "models", "engine", "handlers", "experiments", "scanfire", "trainers")
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_every_package_is_listed_once():
    listed = re.findall(r"^\| `([\w/]+)` \|", TEXT.split("## The packages")[1], re.MULTILINE)
    there = {
        init.parent.relative_to(ROOT).as_posix()
        for floor in FLOORS
        for init in (ROOT / floor).rglob("__init__.py")
    }
    assert sorted(listed) == sorted(there)


def test_the_files_that_it_names_exist():
    section = TEXT.split("## Adding a part")[1].split("## The packages")[0]
    for place in re.findall(r"`([\w/]+(?:\.py|\.yaml|/))`", section):
        assert (ROOT / place).exists(), place
    for name, file in re.findall(r"`([A-Z]+)`(?: and `[A-Z]+`)? of `([\w/]+\.py)`", section):
        check_place(f"{file}::{name}")

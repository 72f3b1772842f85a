"""The code map names what is there, in both languages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from handlers import HANDLERS

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = (ROOT / "docs" / name for name in ("code_map.md", "code_map.zh.md"))
ROW = re.compile(r"^\| (?P<described>.+) \| `(?P<where>\S+)` \| `(?P<test>\S+)` \|$")
LEAST_ROWS = 120


def rows_of(page: Path) -> list[re.Match[str]]:
    return [found for line in page.read_text("utf-8").splitlines() if (found := ROW.match(line))]


ROWS = rows_of(ENGLISH)


def names_in(tree: ast.AST, prefix: str = "") -> set[str]:
    """Everything that a module or a class defines, with what its classes define."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(prefix + node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {prefix + node.name} | names_in(node, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {prefix + (name.asname or name.name) for name in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {prefix + n.id for t in targets for n in ast.walk(t) if hasattr(n, "id")}
    return found


def check_place(place: str) -> None:
    """A file or folder exists, and defines the name; a name with a dot in front is a file's."""
    file, _, name = place.partition("::")
    path = ROOT / file
    assert path.exists(), f"there is no {file}"
    if name:
        text = path.read_text("utf-8")
        is_string = f'"{name}"' in text
        assert is_string or name in names_in(ast.parse(text)), f"{file} has no {name}"


def test_there_is_a_row_for_every_handler():
    assert len(ROWS) >= LEAST_ROWS
    described = {row["described"] for row in ROWS}
    assert {f"`{name}`" for name in HANDLERS} <= described


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["where"])
def test_what_a_row_names_is_there(row):
    check_place(row["where"])
    assert row["test"].startswith("tests/")
    check_place(row["test"])


def test_both_languages_have_the_same_rows():
    chinese = rows_of(CHINESE)
    assert [(r["where"], r["test"]) for r in chinese] == [(r["where"], r["test"]) for r in ROWS]
    for row, other in zip(ROWS, chinese, strict=True):
        code = [re.findall(r"`[^`]+`", found["described"]) for found in (row, other)]
        assert code[0] == code[1]


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=lambda page: page.name)
def test_every_line_of_a_table_is_a_row(page):
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("| ")]
    heads = [line for line in lines if "`" not in line]
    assert len(lines) - len(heads) == len(rows_of(page))
    assert len(set(heads)) == 1

"""Every block of the examples runs as it stands, in a folder of its own."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# No examples: the index, and where each part of the system is.
WITHOUT_BLOCKS = ("README.md", "architecture.md", "code_map.md", "code_map.zh.md")
EXTENDING = sorted((DOCS / "extending").glob("*.md"))
PAGES = [*sorted(p for p in DOCS.glob("*.md") if p.name not in WITHOUT_BLOCKS), *EXTENDING]
TRAINER = DOCS / "enhanced_trainer.md"
# Guides with examples in Python.
GUIDES = [DOCS / "guide" / "estimator.md"]
# What can be added from outside of this repository.
KINDS = {
    *("augmentation", "handler", "loss", "metric", "model", "reader", "report_section"),
    "transform",
}
MOST_LINES = 30
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w/]+\.(?:py|yaml))\n")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(found[1], found[2], text[: found.start()].count("\n") + 2)
        for found in FENCE.finditer(text)
    ]


def run_console(text: str) -> None:
    """Run commands as Python would, but in this process, which has everything imported."""
    for line in text.splitlines():
        assert line.startswith("$ python "), f"no command that this test can run: {line}"
        script, *arguments = shlex.split(line.removeprefix("$ python "))
        with pytest.MonkeyPatch.context() as process:
            process.setattr(sys, "argv", [script, *arguments])
            process.setattr(sys, "path", [str(Path(script).parent), *sys.path])
            with pytest.raises(SystemExit) as left:
                runpy.run_path(script, run_name="__main__")
        assert not left.value.code, line


@pytest.fixture
def folder(tmp_path, monkeypatch, few_trees):
    """A folder like the project's, in which a user's files may lie."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT))
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def run_page(page: Path, folder: Path) -> None:
    """Run its blocks in their order."""
    found = blocks(page)
    assert found
    names: dict[str, object] = {"__name__": "__main__"}
    for block in found:
        file = FILE_NAME.match(block.text)
        if file:
            (folder / file[1]).write_text(block.text)
        elif block.language == "console":
            run_console(block.text)
        elif block.language != "text":
            assert block.language == "python", f"{page.name}:{block.line}: what is this for?"
            # Line numbers of a failure are the page's.
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, str(page), "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [*(p for p in PAGES if p != TRAINER), *GUIDES], ids=lambda page: page.stem
)
def test_every_block_of_a_page_runs_in_its_order(page, folder):
    run_page(page, folder)


@pytest.mark.slow
def test_the_trainer_page_runs_and_leaves_the_files_it_names(folder):
    run_page(TRAINER, folder)
    promised = set(re.findall(r"`(\w+\.(?:pt|html))`", TRAINER.read_text("utf-8")))
    assert len(promised) == 7
    assert promised <= {path.name for path in (folder / "results" / "tft").iterdir()}


def test_the_index_lists_every_page():
    index = (DOCS / "README.md").read_text("utf-8")
    listed = set(re.findall(r"\]\(((?:extending/)?[\w.]+\.md)\)", index))
    pages = {page.relative_to(DOCS).as_posix() for page in PAGES}
    assert listed == pages | {*WITHOUT_BLOCKS[1:]}


def test_each_kind_of_thing_has_a_page():
    assert {page.stem for page in EXTENDING} == KINDS


@pytest.mark.parametrize("page", EXTENDING, ids=lambda page: page.stem)
def test_a_template_is_short_and_named_by_its_dotted_path(page):
    template, *others = [
        b.text for b in blocks(page) if b.language in ("python", "yaml", "console")
    ]
    file = FILE_NAME.match(template)
    assert file
    code = [line for line in template.splitlines()[1:] if line.strip()]
    assert len(code) < MOST_LINES
    assert any(f"{Path(file[1]).stem}." in text for text in others)

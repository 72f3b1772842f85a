"""Packages are used through their doors, are not cyclic, stay small, and keep one vocabulary."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("datasets", "engine", "experiments", "handlers", "models", "scanfire", "trainers")
MOST_MODULES = 20
# One file for each of many equal things.
FLAT = {"handlers", "experiments/benchmarks"}
# Scripts, which export nothing.
WITHOUT_DOOR = {"experiments.benchmarks"}

# Names that the field's own words have replaced.
REPLACED = re.compile(
    r"""\b(
    RollCall | roll_call\.py | KeptSteps | kept_steps | KeptOutputs | kept_outputs
    | OpenEpochEngine | WindowCheck | window_check | window_closes | window_size
    | trainer\.announce | _share_anew | is_first | from_first | first_then_others
    | fail_together | largest_ | own_parts | refuse_shares | bare_model | rng_untouched
    | check_contract | Interrupts | ReadTogether | DigestMemory | describe_transform
    | draw_sides | is_mine | take_up
    | kept_findings | lookalikes | [Ww]hoever | takes\ this\ seat | is\ a\ meeting
    | taken\ at\ their\ word | goes\ on\ alone
    )\b""",
    re.VERBOSE,
)
# This file; and the licence's text is not ours.
NOT_READ = {"tests/architecture/test_doors.py", "LICENSE"}


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(*FLOORS, "tests", cache_dir=None)


def past_doors(graph: grimp.ImportGraph) -> list[str]:
    """Imports of a module inside a package by one outside it that is no test of that package."""
    found = []
    for importer in graph.modules:
        place = importer.removeprefix("tests.") + "."
        for imported in graph.find_modules_directly_imported_by(importer):
            package = imported.rpartition(".")[0]
            # The modules directly in a floor are public, and a subpackage has a door of its own.
            if "." not in package or imported.startswith("tests.") or graph.find_children(imported):
                continue
            if package not in WITHOUT_DOOR and not place.startswith(package + "."):
                found.append(f"{importer} -> {imported}")
    return sorted(found)


def imports_in_docs() -> Iterator[tuple[str, str]]:
    """Each page of the documentation, and a module that a line of its examples imports from."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for found in re.finditer(
            r"^(?:from|import) ([\w.]+)", page.read_text("utf-8"), re.MULTILINE
        ):
            yield page.name, found[1]


def modules_in_folders() -> Iterator[tuple[str, int]]:
    for floor in FLOORS:
        for init in (ROOT / floor).rglob("__init__.py"):
            modules = [path for path in init.parent.glob("*.py") if path != init]
            yield init.parent.relative_to(ROOT).as_posix(), len(modules)


def tracked_texts() -> Iterator[tuple[str, str]]:
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if name not in NOT_READ and (ROOT / name).is_file():
            yield name, (ROOT / name).read_text("utf-8", errors="ignore")


def test_packages_are_imported_through_their_doors(imports):
    assert past_doors(imports) == []


def test_an_import_past_a_door_is_noticed(imports):
    graph = grimp.build_graph(*FLOORS, "tests", cache_dir=None)
    graph.add_import(importer="handlers.ema", imported="engine.metrics.ranking")
    graph.add_import(importer="tests.handlers.test_ema", imported="engine.metrics.ranking")
    graph.add_import(importer="tests.engine.metrics.test_tasks", imported="engine.metrics.ranking")
    graph.add_import(importer="handlers.ema", imported="engine.events")
    assert set(past_doors(graph)) - set(past_doors(imports)) == {
        "handlers.ema -> engine.metrics.ranking",
        "tests.handlers.test_ema -> engine.metrics.ranking",
    }


def test_examples_import_from_doors(imports):
    found = dict.fromkeys(imports_in_docs())
    assert ("README.md", "experiments.config") in found
    inside = [
        (page, module)
        for page, module in found
        if module in imports.modules and module.count(".") > 1 and not imports.find_children(module)
    ]
    assert inside == []


def test_no_folder_is_too_large():
    counts = dict(modules_in_folders())
    assert counts["engine/metrics"] > 5
    too_many = {
        folder: count
        for folder, count in counts.items()
        if folder not in FLAT and count > MOST_MODULES
    }
    assert too_many == {}


def test_replaced_words_do_not_return():
    found = {
        f"{name}: {word[0]}" for name, text in tracked_texts() for word in REPLACED.finditer(text)
    }
    assert found == set()

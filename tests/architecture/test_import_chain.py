"""How deep imports go: names from a package's door count as imports of the module behind it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx  # type: ignore[import-untyped]
import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("datasets", "engine", "experiments", "handlers", "models", "scanfire", "trainers")
LONGEST_CHAIN, MOST_WITH_ONE_IMPORTER = 12, 60


def read_modules() -> dict[str, ast.Module]:
    found = {}
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*.py"):
            if "benchmarks" not in path.parts:
                parts = path.relative_to(ROOT).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found[name] = ast.parse(path.read_text("utf-8"))
    return found


def imported_names(body: list[ast.stmt], typed: bool = False) -> Iterator[tuple[str, str]]:
    """Module and name of each import at a module's top level, those for types only if asked."""
    for line in body:
        if isinstance(line, ast.ImportFrom) and line.module:
            yield from ((line.module, alias.name) for alias in line.names)
        elif isinstance(line, ast.Import):
            for alias in line.names:
                module, _, name = alias.name.rpartition(".")
                yield module, name
        elif isinstance(line, ast.If):
            for_types = isinstance(line.test, ast.Name) and line.test.id == "TYPE_CHECKING"
            yield from imported_names(line.orelse if for_types and not typed else line.body, typed)


@pytest.fixture(scope="module")
def imports() -> networkx.DiGraph:
    """Which module imports which when it is imported."""
    modules = read_modules()
    doors = {
        package: {name: module for module, name in imported_names(tree.body, typed=True)}
        for package, tree in modules.items()
        if any(other.startswith(f"{package}.") for other in modules)
    }
    graph = networkx.DiGraph()
    for importer, tree in modules.items():
        if importer in doors:
            continue
        for module, name in imported_names(tree.body):
            while module in doors and f"{module}.{name}" not in modules:
                module, name = doors[module].get(name, ""), name
            found = f"{module}.{name}" if f"{module}.{name}" in modules else module
            if found in modules and found not in doors:
                graph.add_edge(importer, found)
    return graph


def test_no_chain_of_imports_is_longer_than_twelve(imports):
    assert imports.has_edge("experiments.runs.experiment", "engine.trainer")
    chain = networkx.dag_longest_path(imports)
    assert len(chain) <= LONGEST_CHAIN, " > ".join(chain)


def test_few_modules_have_a_single_importer(imports):
    alone = [module for module, importers in imports.in_degree if importers == 1]
    assert len(alone) < MOST_WITH_ONE_IMPORTER, alone

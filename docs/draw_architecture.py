"""Draw the map of the packages in architecture.md from their imports.

Usage: python docs/draw_architecture.py
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import grimp
import networkx

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by docs/draw_architecture.py -->\n", "<!-- end of the drawing -->\n"
FLOORS = ("scanfire", "trainers", "experiments", "handlers", "engine", "models", "datasets")
# Folders of equal things, each drawn as one.
FLAT = ("scanfire", "trainers", "handlers", "models")
# How packages export names; everything imports it.
LEFT_OUT = {"datasets.lazy_exports", "experiments.benchmarks"}


def read_imports() -> networkx.DiGraph:
    """Packages and the modules beside them, and which imports which when it runs."""
    sys.path.insert(0, str(ROOT))
    found = grimp.build_graph(*FLOORS, exclude_type_checking_imports=True, cache_dir=None)
    graph = networkx.DiGraph()
    for importer in found.modules:
        for imported in found.find_modules_directly_imported_by(importer):
            graph.add_edge(_node(importer), _node(imported))
    graph.remove_nodes_from(LEFT_OUT)
    graph.remove_edges_from(list(networkx.selfloop_edges(graph)))
    return graph


def draw() -> str:
    """The map: a diagram of the floors, then of each floor's packages, with a line on each."""
    graph = read_imports()
    floors = networkx.DiGraph((a.split(".")[0], b.split(".")[0]) for a, b in graph.edges)
    floors.remove_edges_from(list(networkx.selfloop_edges(floors)))
    parts = [_diagram(floors)]
    for floor in FLOORS:
        inside = graph.subgraph(n for n in graph if n.startswith(f"{floor}."))
        parts.append(f"### {floor}\n\n{_sentence(floor)}\n")
        if inside:
            parts += [_diagram(inside), _table(inside)]
    return "\n".join(parts)


def write_map(page: str) -> str:
    """The page with its map drawn anew."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{draw()}\n{END}{rest.split(END)[1]}"


def _node(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] in FLAT else ".".join(parts[:2])


def _diagram(graph: networkx.DiGraph) -> str:
    """Arrows to what is imported, without those that follow from others."""
    names = {node: node.split(".")[-1] for node in sorted(graph)}
    lines = [f"    {name}{_shape(node)}" for node, name in names.items()]
    arrows = sorted(networkx.transitive_reduction(graph).edges)
    lines += [f"    {names[a]} --> {names[b]}" for a, b in arrows]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```", ""])


def _shape(node: str) -> str:
    """A package is a box, a module has round corners."""
    name = node.split(".")[-1]
    return f"[{name}]" if (ROOT / node.replace(".", "/")).is_dir() else f"({name}.py)"


def _table(graph: networkx.DiGraph) -> str:
    order = networkx.lexicographical_topological_sort(graph)
    lines = [f"| `{node.replace('.', '/')}` | {_sentence(node)} |" for node in order]
    return "\n".join(["| package or module | |", "|---|---|", *lines, ""])


def _sentence(node: str) -> str:
    """The first line of a package's or module's docstring."""
    path = ROOT / node.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    described = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return described.partition("\n")[0].replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(write_map(PAGE.read_text("utf-8")), "utf-8")

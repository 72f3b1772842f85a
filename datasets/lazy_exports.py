"""Public names of a package, imported when first used."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_exports(package: str, file: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package that lists its names under ``if TYPE_CHECKING``.

    One list serves type checkers and readers, and ``--help`` does not import torch.
    """
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    found = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    module_of = {alias.name: node.module for node in found for alias in node.names}

    def get(name: str) -> Any:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    return get

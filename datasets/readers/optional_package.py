"""Packages that only the importers need."""

from __future__ import annotations

import importlib
from typing import Any

from datasets.errors import CohortError


def require_package(module: str, what: str) -> Any:
    """Import a module of the extra `import`.

    Args:
        module: Its dotted name.
        what: What needs it, for the error line.

    Raises:
        CohortError: It is not installed.

    Example:
        >>> require_package("json", "JSON").__name__
        'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = (error.name or module).partition(".")[0]
        raise CohortError(
            f"{what} needs the package {package}, which is not installed; it comes with the extra "
            "`import`: pip install -c constraints.txt -e '.[import]'"
        ) from error

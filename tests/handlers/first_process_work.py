"""What every handler of two processes writes and prints, each process in a folder of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path
from typing import Any

from engine.distributed import rank
from handlers import HANDLERS
from tests.handlers.handler_contract import NEEDS_PACKAGE, build, finish

# Takes seconds to begin, and writes nothing into a run.
LEFT_OUT = {"compile"}


def tried() -> list[str]:
    """The handlers that can be tried here."""
    packages = NEEDS_PACKAGE
    there = [n for n in HANDLERS if n not in packages or importlib.util.find_spec(packages[n])]
    return [name for name in there if name not in LEFT_OUT]


def work(folder: Path) -> dict[str, Any]:
    """Train with one handler after the other."""
    found: dict[str, Any] = {}
    for name in tried():
        run_dir = folder / "written" / f"{name}-{rank()}"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            trainer, handler = build(name, run_dir)
            finish(trainer, handler)
        files = sorted(str(path.relative_to(run_dir)) for path in run_dir.rglob("*"))
        found[name] = {"files": files, "printed": printed.getvalue()}
    return found

"""Commands in processes of their own that need not import everything anew."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

OUT, ERR = "out.txt", "err.txt"
# With a GPU, a backward pass (of another test) leaves threads, after which no fork can train. Torch
# is not asked whether there is one: that starts the driver, which a fork of a fork could not use.
GPU = any(Path("/dev").glob("nvidia[0-9]*"))
CONTEXT = multiprocessing.get_context("spawn") if GPU else multiprocessing.get_context("fork")


def start_forked(folder: Path, work: Callable[..., int | None], *arguments: Any) -> BaseProcess:
    """Start ``sys.exit(work(*arguments))``; what it prints goes to ``out.txt`` and ``err.txt``.

    Args:
        folder: The process works there, and its two files lie there.
        work: A function of a module.
        *arguments: Given to it.
    """
    for name in (OUT, ERR):
        (folder / name).write_text("")
    process = CONTEXT.Process(target=_be_command, args=(folder, work, arguments))
    process.start()
    return process


def _be_command(folder: Path, work: Callable[..., int | None], arguments: tuple[Any, ...]) -> None:
    os.chdir(folder)
    for stream, name in (("stdout", OUT), ("stderr", ERR)):
        file = open(name, "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        # Processes that this one starts write there, too.
        number = getattr(sys, f"__{stream}__").fileno()
        os.dup2(file.fileno(), number)
        setattr(sys, stream, file)
    torch.set_num_threads(1)
    sys.exit(work(*arguments))

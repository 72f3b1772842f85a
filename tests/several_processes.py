"""Real processes that train together over Gloo, started once for all tests that look at them.

A module of work has a function ``work(folder) -> dict`` that every process calls; what it returns
in each is what the tests look at. One process forks two, and then three.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch

from tests.forked import ERR, OUT, start_forked

# A process that waits for another in vain is to fail well before the test does.
PATIENCE_S, LIMIT_S = 30, 150

WORK_OF_THREE = ["tests.engine.joint_metrics_work", "tests.handlers.shared_resume_work"]
WORK_OF_TWO = [
    *WORK_OF_THREE,
    "tests.engine.stop_consensus_work",
    "tests.engine.sharding_work",
    "tests.handlers.distributed_training_work",
    "tests.handlers.first_process_work",
    "tests.handlers.graceful_shutdown_work",
    "tests.handlers.step_log_work",
    "tests.experiments.fitted_network_work",
    # Last: one of the processes does not survive it.
    "tests.engine.lost_peer_work",
]
WORK = {2: WORK_OF_TWO, 3: WORK_OF_THREE}

Outcomes = dict[str, list[dict[str, Any]]]


def run_together(folder: Path) -> None:
    """Have two processes, and then three, do their work.

    Args:
        folder: Given to it; what is left there, others may find.
    """
    started = start_forked(folder, main, folder)
    assert started.pid is not None
    try:
        started.join(LIMIT_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.join()
    told = "".join((folder / name).read_text() for name in (OUT, ERR))
    missing = [
        f"{module} of rank {rank} of {world_size}"
        for world_size, modules in WORK.items()
        for module in modules
        for rank in range(world_size)
        if not _file(folder, world_size, module, rank).exists()
    ]
    assert not missing, "\n".join([told, "nothing was left by", *missing])


def outcomes_of(world_size: int, folder: Path) -> Outcomes:
    """By module, what each process returned."""
    return {
        module: [
            torch.load(_file(folder, world_size, module, rank), weights_only=False)
            for rank in range(world_size)
        ]
        for module in WORK[world_size]
    }


def _file(folder: Path, world_size: int, module: str, rank: int) -> Path:
    return folder / f"of-{world_size}" / f"{module}-{rank}.pt"


def main(folder: Path) -> None:
    """Fork the processes, in a group of their own."""
    os.setpgid(0, 0)
    works = {name: importlib.import_module(name).work for name in WORK_OF_TWO}
    for world_size, modules in WORK.items():
        (folder / f"of-{world_size}").mkdir()
        processes = []
        for rank in range(world_size):
            processes.append(os.fork())
            if processes[-1] == 0:
                _be_one(rank, world_size, folder, {name: works[name] for name in modules})
        for process in processes:
            os.waitpid(process, 0)


def _be_one(rank: int, world_size: int, folder: Path, works: dict[str, Any]) -> None:
    """Join the others, do the work and end."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    try:
        # Not through Ignite, which would give each process a GPU where there are some.
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{folder}/of-{world_size}/meeting_point",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=PATIENCE_S),
        )
        idist.sync()
        for name, work in works.items():
            torch.save(work(folder), _file(folder, world_size, name, rank))
    except BaseException:
        traceback.print_exc()
    finally:
        # Not through the interpreter's end, where a process waits for those that are gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

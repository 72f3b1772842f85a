"""Real processes that train together over Gloo, started once for all tests that look at them.

A module of work has a function ``work(folder) -> dict`` that every process calls; what it returns
in each is what the tests look at. As a script this is one of the processes:

``python -m tests.several_processes FOLDER MODULE ...`` with ``RANK`` and ``WORLD_SIZE`` in the
environment does the work of one module after the other.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch

ROOT = Path(__file__).resolve().parents[1]
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
    # Last: one of the processes does not survive it.
    "tests.engine.lost_peer_work",
]

Outcomes = dict[str, list[dict[str, Any]]]


def run_together(world_size: int, modules: Sequence[str], folder: Path) -> Outcomes:
    """Have so many processes do the work of modules; by module, what each process returned.

    Args:
        world_size: How many processes.
        modules: Each with a function ``work``.
        folder: Given to it; what is left there, others may find.
    """
    place = folder / f"of-{world_size}"
    place.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(world_size),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.several_processes", str(place), *modules],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        told = [process.communicate(timeout=LIMIT_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    files = {
        module: [place / f"{module}-{rank}.pt" for rank in range(world_size)] for module in modules
    }
    for each in files.values():
        assert all(file.exists() for file in each), "\n".join(told)
    return {
        module: [torch.load(file, weights_only=False) for file in each]
        for module, each in files.items()
    }


def main(place: Path, modules: Sequence[str]) -> None:
    """Join the others and do the work."""
    torch.set_num_threads(1)
    # Not through Ignite, which would give each process a GPU where there are some.
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{place}/meeting_point",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timedelta(seconds=PATIENCE_S),
    )
    idist.sync()
    for module in modules:
        outcome = importlib.import_module(module).work(place.parent)
        torch.save(outcome, place / f"{module}-{idist.get_rank()}.pt")
    # Not through the interpreter's end, where a process waits for those that are gone.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

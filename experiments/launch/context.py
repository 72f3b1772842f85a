"""The job that torchrun started: who belongs to it, and the memory that its processes share."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

# What torchrun tells each process that it starts.
TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
RUN_ID, UNNAMED = "TORCHELASTIC_RUN_ID", "none"
# Whether torchrun keeps the memory, or the first process, with which it ends.
KEPT_BY_TORCHRUN = "TORCHELASTIC_USE_AGENT_STORE"

# Keys of the job's store.
RUN, SPOKEN = "scanfire/run", "spoken"
POLL_S = 0.05


@dataclass(frozen=True)
class LaunchContext:
    """One start of a job's processes; torchrun may start them several times (``--max-restarts``).

    Attributes:
        rank: Which of the processes this one is, from 0.
        local_rank: The same, counted on this machine.
        world_size: How many processes there are, on all machines.
        run_id: What torchrun calls the job (``--rdzv-id``).
        memory: Most often kept by torchrun, so that it outlives the processes.
        forgets: Whether it does not.
        of_this_start: A part of the memory that nobody has written to before.
    """

    rank: int
    local_rank: int
    world_size: int
    run_id: str
    memory: Any
    of_this_start: Any
    forgets: bool = False

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def has_the_word(self) -> bool:
        """Whether this process is the one to say what all would say: the first that asks is."""
        try:
            return int(self.of_this_start.add(SPOKEN, 1)) == 1
        except RuntimeError:  # torchrun's memory is gone, with the machine that it was on
            return True

    def remember_run(self, run_dir: Path) -> None:
        """Keep the run's folder in mind, for processes that are started again."""
        self.memory.set(RUN, str(run_dir.resolve()))

    def recall_run(self) -> Path | None:
        """The folder of the run that this job has begun, in this start or an earlier one."""
        try:
            known = self.memory.check([RUN])
            return Path(self.memory.get(RUN).decode()) if known else None
        except RuntimeError:
            return None


def current_launch() -> LaunchContext | None:
    """The job that this process belongs to; None where torchrun did not start it.

    Comes back when all of the job's processes have come here.
    """
    if any(name not in os.environ for name in TOLD):
        return None
    # As torch itself finds it, but once for all uses.
    memory, rank, world_size = next(iter(dist.rendezvous("env://")))
    start = _name_of_start(memory, rank, world_size)
    return LaunchContext(
        rank=rank,
        local_rank=int(os.environ["LOCAL_RANK"]),
        world_size=world_size,
        run_id=os.environ.get(RUN_ID, UNNAMED),
        memory=memory,
        of_this_start=dist.PrefixStore(start, memory),
        forgets=os.environ.get(KEPT_BY_TORCHRUN) != str(True),
    )


def _name_of_start(memory: Any, rank: int, world_size: int) -> str:
    """A name that all processes of this start know, and that no earlier start had.

    What an earlier start has left in the memory would be taken for this one's: torch 2.13 waits
    for the dead then. torchrun's count of restarts does not tell starts apart: each machine has
    its own, and a machine that joins is not counted.
    """
    own = uuid.uuid4().hex
    if rank > 0:
        memory.set(f"call/{rank}", own)
        name = str(memory.get(f"answer/{own}").decode())  # waits for it
        memory.set(f"here/{name}/{rank}", "")
        return name
    answered, missing = set(), set(range(1, world_size))
    while missing:
        for other in sorted(missing):
            # It may be the call of an earlier start's process, which will not say that it is here.
            call = memory.get(f"call/{other}").decode() if memory.check([f"call/{other}"]) else ""
            if call and call not in answered:
                answered.add(call)
                memory.set(f"answer/{call}", own)
            if memory.check([f"here/{own}/{other}"]):
                missing.discard(other)
        time.sleep(POLL_S if missing else 0)
    return own

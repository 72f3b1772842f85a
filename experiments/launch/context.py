"""The job that torchrun started: ranks, and the store that its processes share."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.run_files import RunFile, is_finished, is_named

# What torchrun tells each process that it starts.
TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
RUN_ID, UNNAMED = "TORCHELASTIC_RUN_ID", "none"
# Whether torchrun keeps the store, or rank 0, with which it ends.
KEPT_BY_TORCHRUN = "TORCHELASTIC_USE_AGENT_STORE"

# Where environment.json has what torchrun calls the job that a run was begun by.
JOB = "job"
# Keys of the job's store.
RUN, SPOKEN = "scanfire/run", "spoken"
POLL_S = 0.05


@dataclass(frozen=True)
class LaunchContext:
    """One start of a job's processes; torchrun may start them several times (``--max-restarts``).

    ``local_rank`` is among the processes of this machine; ``run_id`` torchrun's name of the job
    (``--rdzv-id``). ``memory`` is the job's store, usually kept by torchrun, so that it outlives
    the processes; if not, it ``forgets``. No earlier start has written to ``of_this_start``, a part
    of it.
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
        """Whether this process writes files and prints."""
        return self.rank == 0

    def prints_first(self) -> bool:
        """Whether this process is the first to ask, and so prints what all would print."""
        try:
            return int(self.of_this_start.add(SPOKEN, 1)) == 1
        except RuntimeError:  # torchrun's store is gone, with its machine
            return True

    def remember_run(self, run_dir: Path) -> None:
        """Store the run's folder for processes that are started again."""
        self.memory.set(RUN, str(run_dir.resolve()))

    def recall_run(self) -> Path | None:
        """The folder of the run that this job has begun, in this start or an earlier one."""
        try:
            known = self.memory.check([RUN])
            return Path(self.memory.get(RUN).decode()) if known else None
        except RuntimeError:
            return None


def current_launch() -> LaunchContext | None:
    """The job of this process; None if torchrun did not start it. Collective."""
    if any(name not in os.environ for name in TOLD):
        return None
    import torch.distributed as dist

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

    Keys of an earlier start would make torch 2.13 wait for dead processes; torchrun's count of
    restarts differs between machines.
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
            # It may be the call of a process of an earlier start, which will not answer.
            call = memory.get(f"call/{other}").decode() if memory.check([f"call/{other}"]) else ""
            if call and call not in answered:
                answered.add(call)
                memory.set(f"answer/{call}", own)
            if memory.check([f"here/{own}/{other}"]):
                missing.discard(other)
        time.sleep(POLL_S if missing else 0)
    return own


def begun_run(job: LaunchContext, runs_dir: Path, exp_name: str) -> Path | None:
    """The folder of the run that an earlier start of this job has begun, if any.

    If the store ``forgets``: the newest unfinished run of a job of this name.
    """
    remembered = job.recall_run()
    if remembered is not None or not job.forgets or job.run_id == UNNAMED:
        return remembered
    told = [p for p in runs_dir.glob(f"*/{RunFile.ENVIRONMENT}") if is_named(p.parent, exp_name)]
    own = [p for p in told if _job_of(p) == job.run_id and not is_finished(p.parent)]
    newest = max(own, key=lambda path: path.stat().st_mtime_ns, default=None)
    return None if newest is None else newest.parent


def _job_of(environment: Path) -> str | None:
    try:
        found = json.loads(environment.read_text("utf-8")).get(JOB)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


@contextmanager
def quiet_others(job: LaunchContext | None) -> Iterator[None]:
    """A context in which only rank 0 prints errors of the command line."""
    if job is None or job.is_main_process:
        yield
    else:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            yield

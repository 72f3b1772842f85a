"""Process groups of a job that torchrun started: joining, leaving, and lost peers."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
import torch
import torch.distributed as dist

from datasets.errors import UsageError
from engine.checkpointing import prepare_cublas
from engine.distributed import BACKENDS, PEER_LOST, barrier, gather, peer_failure, world_size
from engine.precision import best_device
from experiments.command_line import complain, run_command
from experiments.run_files import digest

if TYPE_CHECKING:
    from experiments.config import Config, TrainerConfig
    from experiments.launch.context import LaunchContext

# Rank 0 may transform or audit a large cohort while the others wait.
WAIT = timedelta(hours=3)
# "Temporary failure, the user is invited to retry" (sysexits.h).
PEER_LOST_CODE = 75
# Ignite believes SLURM's variables, which tell of torchrun's process, more than torchrun's.
MISLEADING = "SLURM_JOB_ID"


@contextmanager
def joined(job: LaunchContext | None, settings: TrainerConfig) -> Iterator[None]:
    """A context with the job's process group; without one for a single process.

    Collective at its end. After an exception it does not wait for the others: exit the process.
    """
    if job is not None and settings.processes.strategy == "dp":
        raise UsageError(
            "trainer.processes.strategy: dp is of one process that torchrun does not start; start "
            "it with python, or use ddp"
        )
    if job is None or job.world_size == 1:
        yield
        return
    device = _device_of(job.local_rank, settings.device)
    if device.type == "cuda":
        if settings.deterministic:
            prepare_cublas()
        torch.cuda.set_device(device)
    backend = choose_backend(settings, device)
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", job.of_this_start),
        rank=job.rank,
        world_size=job.world_size,
        timeout=WAIT,
        device_id=device if backend == "nccl" else None,
    )
    misleading = os.environ.pop(MISLEADING, None)
    try:
        idist.sync()
    finally:
        if misleading is not None:
            os.environ[MISLEADING] = misleading
    watch = PeerWatch(job.rank, job.world_size, lambda: say_peer_lost(job), PEER_LOST_CODE)
    yield
    barrier()
    watch.close()
    idist.finalize()


def own_device(name: str) -> torch.device:
    """The device of this process; one GPU for each process of a machine."""
    return _device_of(idist.get_local_rank(), name) if world_size() > 1 else _device(name)


def replica_devices(settings: TrainerConfig) -> list[int]:
    """The GPUs that one process trains on together (``dp``): all that it sees."""
    key, device = "trainer.processes.strategy", _device(settings.device)
    if device.type != "cuda":
        raise UsageError(f"{key}: dp needs GPUs, but the training is on {device.type}; use ddp")
    if ":" in settings.device:
        raise UsageError(
            f"{key}: dp takes all GPUs, but trainer.device is {settings.device}; set cuda, and "
            "choose GPUs by CUDA_VISIBLE_DEVICES"
        )
    found = torch.cuda.device_count()
    if found < 2:
        raise UsageError(f"{key}: dp needs two GPUs or more, this process sees {found}; use ddp")
    return list(range(found))


def check_alike(config: Config, fingerprint: str) -> None:
    """Refuse processes with different configurations or data. Collective."""
    # A dry run has a folder of its own in each.
    settings = {key: value for key, value in config.resolved().items() if key != "runs_dir"}
    told = gather((digest(settings), fingerprint))
    for number, (other_settings, other_data) in enumerate(told):
        if other_settings != told[0][0]:
            raise UsageError(f"process {number} has another configuration than process 0")
        if other_data != told[0][1]:
            raise UsageError(
                f"process {number} has another cohort or split than process 0: fingerprint "
                f"{other_data}, not {told[0][1]}"
            )


def describe_group(settings: TrainerConfig) -> dict[str, Any] | None:
    """World size, strategy and backend in plain types; None for a single process."""
    if settings.processes.strategy == "dp":
        return {"number": 1, "strategy": "dp", "gpus": torch.cuda.device_count()}
    if world_size() == 1:
        return None
    return {
        "number": world_size(),
        "machines": idist.get_nnodes(),
        "strategy": settings.processes.strategy,
        "backend": idist.backend(),
    }


def tell_group(settings: TrainerConfig) -> str | None:
    """A printed line on the processes; None for a single process."""
    group = describe_group(settings)
    if group is None:
        return None
    together = (settings.batch_size or 0) * group["number"]
    if "gpus" in group:
        return (
            f"1 process, {group['gpus']} GPUs, joint batch {settings.batch_size}: "
            "torchrun with the strategy ddp is faster"
        )
    return f"{group['number']} processes, joint batch {together} ({group['backend']})"


def choose_backend(settings: TrainerConfig, device: torch.device) -> str:
    """The backend of collectives."""
    chosen = settings.processes.backend
    if chosen == "nccl" and device.type != "cuda":
        raise UsageError(
            f"trainer.processes.backend: nccl needs GPUs, but the training is on {device.type}; "
            "use auto or gloo"
        )
    return BACKENDS[device.type] if chosen == "auto" else chosen


def say_peer_lost(job: LaunchContext, line: str = PEER_LOST) -> None:
    """Print, in one process only, that the job cannot continue."""
    if job.prints_first():
        run_dir = job.recall_run()
        further = "" if run_dir is None else f"; to continue: --resume {run_dir}"
        complain(f"error: {line}{further}")


def _device_of(local_rank: int, name: str) -> torch.device:
    device = _device(name)
    if device.type != "cuda":
        return device
    if ":" in name:
        raise UsageError(
            f"trainer.device: several processes cannot share {name}; with cuda each has its own"
        )
    found = torch.cuda.device_count()
    if local_rank >= found:
        raise UsageError(
            f"trainer.device: this machine has {found} CUDA devices, too few for a process each; "
            f"start it with --nproc_per_node={found}, or set cpu"
        )
    return torch.device("cuda", local_rank)


def _device(name: str) -> torch.device:
    try:
        return best_device(name)
    except ValueError as error:
        raise UsageError(f"trainer.device: {error}") from error


# The training usually notices by itself, and ends in better order.
GRACE_S = 3.0
# Longer than any training: the watch waits for the last message of its neighbour.
ALWAYS = timedelta(days=365)


class PeerWatch:
    """Watches the next rank in a ring, from a thread; exits this process when that rank is gone.

    A process that computes on a GPU may wait for hours for a killed one, and answers no signal.
    When the training has not noticed, ``say`` is called, then the process exits.
    """

    def __init__(self, rank: int, world_size: int, say: Callable[[], None], exit_code: int) -> None:
        self._group: Any = dist.new_group(backend="gloo", timeout=ALWAYS)
        self._next, self._former = (rank + 1) % world_size, (rank - 1) % world_size
        self._say, self._exit_code = say, exit_code
        self._thread = threading.Thread(target=self._watch, name="peer-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell the neighbours that this process ends in order. Collective."""
        dist.send(torch.zeros(1), self._former, group=self._group)
        self._thread.join()

    def _watch(self) -> None:
        try:
            dist.recv(torch.zeros(1), self._next, group=self._group)
        except RuntimeError:
            time.sleep(GRACE_S)
            self._say()
            sys.stdout.flush()
            os._exit(self._exit_code)


BUG = 1  # as Python leaves after a traceback


def run_job_command(job: LaunchContext, work: Callable[[], int], interrupted: str) -> int:
    """:func:`experiments.command_line.run_command` in each process of a job.

    Rank 0 alone prints; an error of all ranks is printed once. Any exit code but 0 ends the
    process here: shutting down the process group could wait forever for lost peers.
    """

    def say(line: str) -> None:
        if job.prints_first():
            complain(line)

    def work_with_others() -> int:
        try:
            return work()
        except Exception as error:  # of whatever kind the lost connection made
            line = peer_failure(error)
            if line is None:
                raise
            say_peer_lost(job, line)
            return PEER_LOST_CODE

    with ExitStack() as stack:
        if not job.is_main_process:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
        try:
            code = run_command(work_with_others, interrupted, say)
        except Exception:  # a bug: its traceback, and no waiting for the others
            traceback.print_exc()
            code = BUG
    if code and job.world_size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code

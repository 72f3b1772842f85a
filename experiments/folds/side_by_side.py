"""Work spread over processes, each with its share of the cores, or a GPU."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any

import torch
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from datasets.errors import UsageError

VISIBLE = "CUDA_VISIBLE_DEVICES"


class SideBySide:
    """Processes that do work side by side, with one job this process alone.

    Each process has its share of the cores, and unless ``device`` is ``cpu`` one GPU, in turn. The
    processes start at the first work, print nothing, and end with this one.
    """

    def __init__(self, jobs: int, device: str = "cpu") -> None:
        self.jobs, self.device = jobs, device
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> SideBySide:
        """Nothing is started yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """Finish what is under way, and begin nothing else."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def each(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Do ``work`` on each item; yields its number and its result, as they come."""
        if self.jobs == 1:
            for number, item in enumerate(items):
                yield number, work(item)
            return
        if self._pool is None:
            context = get_context("spawn")  # after a fork neither CUDA nor OpenMP can be used
            numbers = context.Queue()
            for number in range(self.jobs):
                numbers.put(number)
            given = (numbers, max(1, cpu_count() // self.jobs), gpus(self.device))
            self._pool = ProcessPoolExecutor(self.jobs, context, _begin, given)
        try:
            futures = {self._pool.submit(work, item): n for n, item in enumerate(items)}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UsageError(
                "a process of --jobs died, perhaps for want of memory; the same command line "
                "continues"
            ) from error


def gpus(device: str) -> list[str]:
    """The names of the GPUs that this process may use; none if it is to use none."""
    if device == "cpu":
        return []
    given = os.environ.get(VISIBLE)
    names = given.split(",") if given else [str(n) for n in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]


def _begin(numbers: Any, threads: int, names: Sequence[str]) -> None:
    """Set up a process, before its first work."""
    set_up_process(numbers.get(), threads, names)
    # Ctrl-C reaches all: a training ends at its next step, and no more are begun.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lasts)


def set_up_process(number: int, threads: int, names: Sequence[str]) -> None:
    """Give this process its share of the cores and one of the GPUs; it ends with its parent."""
    if names:
        os.environ[VISIBLE] = names[number % len(names)]
    os.environ["LOKY_MAX_CPU_COUNT"] = str(threads)  # what joblib.cpu_count() returns
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent must not leave processes that hold the runs' folders."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

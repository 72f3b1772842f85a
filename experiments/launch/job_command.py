"""A command's work as one of a job's processes does it: one speaks for all, none waits in vain."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout

from engine.distributed import peer_failure
from experiments.command_line import complain, run_command
from experiments.launch.context import LaunchContext
from experiments.launch.process_group import PEER_LOST_CODE, say_peer_lost

BUG = 1  # as Python leaves after a traceback


def run_job_command(job: LaunchContext, work: Callable[[], int], interrupted: str) -> int:
    """As :func:`experiments.command_line.run_command`, in every process of a job.

    What all would say, one says; what the others print is not shown, but their warnings are.
    Where another process is gone, this one says so and leaves. Any exit code but 0 ends the
    process here: its farewell to processes that may be gone could take forever.

    Args:
        job: Of several processes, or one.
        work: Returns the exit code.
        interrupted: Said where Ctrl-C ends it.
    """

    def say(line: str) -> None:
        if job.has_the_word():
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

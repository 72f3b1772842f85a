"""Which run a job has begun, that its processes are to continue when torchrun starts them again."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.launch import JOB, UNNAMED, LaunchContext
from experiments.run_files import ENVIRONMENT_NAME, is_finished, is_named


def begun_run(job: LaunchContext, runs_dir: Path, exp_name: str) -> Path | None:
    """The folder of the run that an earlier start of this job has begun; None for none.

    Where the job's memory ends with its processes, it is the newest unfinished run that a job of
    this name began.

    Args:
        job: This one.
        runs_dir: Where all runs live.
        exp_name: The run's name, without a number.
    """
    remembered = job.recall_run()
    if remembered is not None or not job.forgets or job.run_id == UNNAMED:
        return remembered
    told = [
        path
        for path in runs_dir.glob(f"*/{ENVIRONMENT_NAME}")
        if is_named(path.parent, exp_name) and _job_of(path) == job.run_id
    ]
    told = [path for path in told if not is_finished(path.parent)]
    newest = max(told, key=lambda path: path.stat().st_mtime_ns, default=None)
    return None if newest is None else newest.parent


def _job_of(environment: Path) -> str | None:
    try:
        found = json.loads(environment.read_text("utf-8")).get(JOB)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None

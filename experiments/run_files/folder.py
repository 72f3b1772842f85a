"""A run's folder: a free name for a new run, and which run to continue."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shlex
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from filelock import FileLock, Timeout

from datasets.errors import UsageError, file_errors, nearest
from datasets.files import write_whole
from datasets.paths import as_path
from engine.reporting import read_log
from experiments.command_line import as_typed, complain
from experiments.config import write_yaml

if TYPE_CHECKING:
    from experiments.config import Config


class RunFile:
    """Names of the files in a run's folder."""

    CONFIG = "config.yaml"  # makes a folder a run that can be continued
    RESOLVED = "resolved.yaml"  # the same with all that follows from what was chosen
    ENVIRONMENT = "environment.json"
    SPLITS = "splits.csv"
    AUDIT = "audit.json"
    LOG = "log.jsonl"
    METRICS = "metrics.json"
    DECISIONS = "decisions.json"  # of a model that was trained on all samples
    PREDICTIONS = "predictions.csv"
    VAL_PREDICTIONS = "predictions_val.csv"
    BASELINE_PREDICTIONS: ClassVar = {
        "val": "predictions_val_baselines.csv",
        "test": "predictions_baselines.csv",
    }
    BASELINES = "baselines.skops"
    PREPROCESSING = "preprocessing.pt"
    WEIGHTS = "checkpoints/model.safetensors"
    SUMMARY = "summary.md"
    CARD = "model_card.md"
    LOCK = ".lock"


# Written by the last stage; a run whose log lacks it was cut off.
FINISHED = "run_finished"
STARTS = ("run_started", "run_resumed")


def new_run_dir(runs_dir: Path, exp_name: str) -> Path:
    """Make the folder of a new run; an existing one is left alone and a number is added."""
    for number in count(1):
        folder = runs_dir / (exp_name if number == 1 else f"{exp_name}-{number}")
        problem = f"runs_dir: cannot make {folder}"
        with file_errors(problem), contextlib.suppress(FileExistsError):
            # Making it is also claiming it: two runs started at once get two folders.
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("unreachable: there is always a next number")


def require_place(runs_dir: Path) -> None:
    """Refuse a ``runs_dir`` that :func:`new_run_dir` could not make or write to; makes nothing."""
    there = next(path for path in (runs_dir, *runs_dir.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UsageError(f"runs_dir: cannot make {runs_dir}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"runs_dir: cannot make {runs_dir}: {there} cannot be written to")


def is_named(run_dir: Path, exp_name: str) -> bool:
    """Whether a folder is called as :func:`new_run_dir` calls those of this name.

    Example:
        >>> is_named(Path("runs/hcc-2"), "hcc"), is_named(Path("runs/hcc-fold0"), "hcc")
        (True, False)
    """
    return re.fullmatch(re.escape(exp_name) + r"(-\d+)?", run_dir.name) is not None


def write_config(run_dir: Path, config: Config) -> None:
    """Write ``config.yaml``, what was chosen, and ``resolved.yaml``, all that follows from it.

    Where a continued run changes ``config.yaml``, the former one is kept beside it. A run can be
    continued from its ``config.yaml`` on: this comes after all else that it is continued from.
    """
    path, text = run_dir / RunFile.CONFIG, write_yaml(config.plain()).encode()
    with file_errors(f"cannot write to {run_dir}"):
        write_whole(write_yaml(config.resolved()).encode(), run_dir, RunFile.RESOLVED)
        if path.is_file():
            former = path.read_bytes()
            if former == text:
                return
            names = (f"config.former-{n}.yaml" for n in count(1))
            write_whole(former, run_dir, next(n for n in names if not (run_dir / n).exists()))
        write_whole(text, run_dir, RunFile.CONFIG)


def is_finished(run_dir: Path) -> bool:
    """Whether the run in this folder went through its last stage."""
    if not (run_dir / RunFile.LOG).exists():
        return False  # cut off before its first line
    rows = read_log(run_dir / RunFile.LOG)
    stages = [row["event"] for row in rows if row["event"] in (*STARTS, FINISHED)]
    return bool(stages) and stages[-1] == FINISHED


def find_run(which: str, runs_dir: Path, exp_name: str) -> Path:
    """The folder of the run to continue: ``auto`` for the newest unfinished one of ``exp_name``."""
    if which == "auto":
        folders = (runs_dir / name for name in run_names(runs_dir))
        runs = [run for run in folders if is_named(run, exp_name) and not is_finished(run)]
        if not runs:
            raise UsageError(f"--resume auto: no unfinished run of '{exp_name}' in {runs_dir}")
        return max(runs, key=lambda folder: (folder / RunFile.CONFIG).stat().st_mtime_ns)
    try:
        given = as_path(which)
    except UsageError as error:
        raise UsageError(f"--resume: {error}") from error
    for folder in (given, runs_dir / which):
        if is_run(folder):
            return folder
    known = nearest(which, run_names(runs_dir))
    raise UsageError(f"--resume: no run '{which}' in {runs_dir}{known}")


def to_resume(run_dir: Path) -> str:
    """The command that continues a run of one process."""
    words = shlex.join([str(run_dir / RunFile.CONFIG), "--resume", str(run_dir)])
    return f"{as_typed('run.py')} {words}"


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    return (folder / RunFile.CONFIG).is_file()


def run_names(runs_dir: Path) -> list[str]:
    """The runs in a folder, by name."""
    return sorted(path.parent.name for path in runs_dir.glob(f"*/{RunFile.CONFIG}"))


# A process that was just killed may take so long to disappear.
PATIENCE_S = 2.0


class RunLock:
    """Held from the start of a run's work to its end, by the process that writes.

    The operating system releases the lock when the process ends, however it ends. One process may
    take it several times. A file that a killed process left locks nothing.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / RunFile.LOCK
        there = self.path.exists()
        self._lock: FileLock | None = FileLock(
            self.path.resolve(), thread_local=False, is_singleton=True, fallback_to_soft=False
        )
        try:
            self._lock.acquire(timeout=PATIENCE_S)
        except Timeout:
            try:
                told = json.loads(self.path.read_text("utf-8"))
                holder = f"process {told['process']} on {told['host']}"
            except (OSError, ValueError, KeyError, TypeError):
                holder = "another process"
            raise UsageError(f"the run in {run_dir} is being continued by {holder}") from None
        except (PermissionError, FileNotFoundError) as error:
            raise UsageError(f"cannot write to {run_dir}: {error.strerror}") from error
        except (OSError, NotImplementedError):  # as the file systems of some clusters say
            self._lock = None
            if not there:
                self.path.unlink(missing_ok=True)
            complain(f"no lock in {run_dir}: its file system has none; let no other process use it")
            return
        told = json.dumps({"process": os.getpid(), "host": platform.node()})
        with contextlib.suppress(OSError):  # a full disk, say: the lock holds all the same
            self.path.write_text(told, encoding="utf-8")

    def release(self) -> None:
        """Let other processes use the folder; a second time it does nothing."""
        lock, self._lock = self._lock, None
        if lock is None or not lock.is_locked:
            return
        if lock.lock_counter == 1:
            with contextlib.suppress(OSError):  # Windows removes no open file
                self.path.unlink()
        lock.release()

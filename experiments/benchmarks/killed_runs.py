"""A run of the command line that is killed at random moments, and resumed each time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

# What is not used here, a run imports late: each attempt would import it anew.
import captum.attr  # noqa: F401
import torch._dynamo  # noqa: F401
from torch.utils import tensorboard  # noqa: F401

from engine.reporting import read_log
from experiments import run
from experiments.benchmarks.whereabouts import EXPORT, START_UP, read_whereabouts, reset_whereabouts
from experiments.report import write_report  # noqa: F401
from experiments.run_files import is_finished
from experiments.runs import Experiment  # noqa: F401

SCRIPT = Path(__file__).resolve().parents[1] / "run.py"
# Of the kills, how many are aimed at the time before training begins; the others fall after it.
START_UP_SHARE = 0.15
START_UP_GUESS_S = 0.3  # until the first is measured
POLL_S = 0.002
# An attempt takes seconds. One that is not over by then hangs, which is a failure too.
PATIENCE_S = 120.0
# Lines of an attempt's output that are shown where it fails.
SHOWN_LINES = 30
STRAIGHT = "straight"


class Victim:
    """Runs of one setting that are killed, each in a process forked from this one.

    A fork has everything imported already, which would take longer than the run itself.

    Args:
        folder: Holds the configuration, and will hold the runs.
        choose: Draws the moments.
    """

    def __init__(self, folder: Path, choose: random.Random) -> None:
        self.folder, self.config = folder, folder / "config.yaml"
        self.whereabouts, self.output = folder / "whereabouts", folder / "output.txt"
        self.choose = choose
        self.straight = folder / STRAIGHT
        self.start_up_s = START_UP_GUESS_S
        self.iterations = self.training_s = self.export_s = 0.0

    def run_straight(self, forked: bool = False) -> None:
        """The run that is left in peace, by the command line in a process of its own.

        Args:
            forked: Save the time that such a process takes to start.
        """
        reset_whereabouts(self.whereabouts)
        if forked:
            self._attempt(STRAIGHT, None)
        else:
            subprocess.run(
                [sys.executable, SCRIPT, self.config, "--exp_name", STRAIGHT],
                check=True,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        rows = {row["event"]: row for row in read_log(self.straight / "log.jsonl")}
        begin, end, finish = (
            datetime.fromisoformat(rows[event]["time"]).timestamp()
            for event in ("run_started", "run_completed", "run_finished")
        )
        self.training_s, self.export_s = end - begin, finish - end
        self.iterations = rows["run_completed"]["iteration"]

    def remaining_s(self) -> float:
        """How long the run that was last looked at would have gone on."""
        stage, iteration = read_whereabouts(self.whereabouts)
        if stage == EXPORT:
            return self.export_s
        return self.training_s * (1 - iteration / self.iterations) + self.export_s

    def run_killed(self, name: str, kills: int) -> tuple[Path, Counter[str]]:
        """One run from its beginning to its end, killed at most so many times.

        Returns:
            Its folder, and the kills that hit by stage.
        """
        hits: Counter[str] = Counter()
        reset_whereabouts(self.whereabouts)
        while True:
            moment = None
            left = kills - hits.total()
            if left:
                moment = self.choose.uniform(0, 2 * self.remaining_s() / left)
                if self.choose.random() < START_UP_SHARE:
                    moment = -self.choose.uniform(0, self.start_up_s)
            stage = self._attempt(name, moment)
            if stage is not None:
                hits[stage] += 1
            folders = [path.parent for path in self.folder.glob(f"{name}*/config.yaml")]
            assert len(folders) <= 1, f"a run was begun anew beside the one to resume: {folders}"
            # The kill may have hit after the very last line was written.
            if stage is None or (folders and is_finished(folders[0])):
                return folders[0], hits

    def _attempt(self, name: str, moment: float | None) -> str | None:
        """Begin or resume, and kill.

        Args:
            name: The run's.
            moment: Seconds after training starts; if negative, after the process starts; None
                for not at all.

        Returns:
            The stage that the kill hit, None if the run was faster.
        """
        arguments = [str(self.config), "--exp_name", name]
        if any(self.folder.glob(f"{name}*/config.yaml")):
            arguments += ["--resume", "auto"]
        reset_whereabouts(self.whereabouts, read_whereabouts(self.whereabouts)[1])
        process = multiprocessing.get_context("fork").Process(
            target=_run_command, args=(arguments, self.output)
        )
        process.start()
        assert process.pid is not None
        with contextlib.suppress(OSError):  # either of the two may come first
            os.setpgid(process.pid, process.pid)
        began = time.monotonic()
        if moment is not None and moment < 0:
            process.join(-moment)
        else:
            while process.is_alive() and read_whereabouts(self.whereabouts)[0] == START_UP:
                process.join(POLL_S)
                if time.monotonic() - began > PATIENCE_S:
                    break
            self.start_up_s = time.monotonic() - began
            process.join(PATIENCE_S if moment is None else moment)
        # The whole group, its workers too; of a run that has ended nothing should be left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode == -signal.SIGKILL and moment is not None:
            return read_whereabouts(self.whereabouts)[0]
        if process.exitcode != 0:
            tail = "\n".join(self.output.read_text("utf-8").splitlines()[-SHOWN_LINES:])
            raise SystemExit(f"{tail}\nrun.py {' '.join(arguments)} ended with {process.exitcode}")
        return None


def _run_command(arguments: list[str], output: Path) -> None:
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    # Left open: a traceback is written after this function.
    sys.stdout = sys.stderr = open(output, "a", buffering=1, encoding="utf-8")  # noqa: SIM115
    sys.exit(run.main(arguments))

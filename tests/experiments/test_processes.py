"""Runs by several processes: ``torchrun experiments/run.py``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch.distributed.run import main as torchrun

from engine.checkpointing import load_checkpoint
from engine.reporting import read_log
from experiments.config import load_config, read_yaml, write_yaml
from experiments.launch import PEER_LOST_CODE
from experiments.run import main
from experiments.runs import Experiment
from tests.experiments.test_run import RUN_SCRIPT
from tests.forked import ERR, OUT, start_forked

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
TOGETHER = ["--standalone", "--nproc_per_node=2"]
# torchrun then forks its processes, which need not import everything anew.
FORKED = ["--run-path", "--start-method=fork"]
LIMIT_S = 120

# Handlers that the configurations below name; a run finds modules of the folder it is started in.
ACCIDENTS = '''
import os, signal, time
from pathlib import Path
from ignite.engine import Events

START, RANK = os.environ.get("TORCHELASTIC_RESTART_COUNT"), os.environ.get("RANK")
leave = os._exit


def note_and_leave(code):
    Path(f"start-{START}-rank-{RANK}.txt").write_text(str(code))
    leave(code)


if RANK is not None:
    os._exit = note_and_leave


class KilledWhileTheOtherIsStuck:
    """In the second epoch of the first start: rank 1 is killed, rank 0 waits as for a GPU."""

    def attach(self, trainer):
        if START == "0":
            accident = self.kill if RANK == "1" else self.wait
            trainer.add_event_handler(Events.ITERATION_STARTED(once=5), accident)

    def kill(self):
        Path("killed.txt").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def wait(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        time.sleep(600)


class Slow:
    """Leaves time for a signal."""

    def attach(self, trainer):
        trainer.add_event_handler(Events.ITERATION_STARTED, lambda: time.sleep(0.02))
'''


@pytest.fixture
def folder(settings, tmp_path):
    """Holds the configuration and the handlers; more of the configuration comes by name."""
    settings["report"]["enabled"] = False
    settings["loss"] = {"name": "cross_entropy"}  # a mean over samples, however they are batched
    settings["trainer"].update(batch_size=8, max_epochs=3)
    (tmp_path / "small.yaml").write_text(write_yaml(settings))
    (tmp_path / "accidents.py").write_text(ACCIDENTS)
    return tmp_path


@pytest.fixture
def start(folder):
    """Start a run by two processes, which are forked."""
    started = []

    def start_run(*arguments: str, options: tuple[str, ...] = ()) -> BaseProcess:
        words = [*TOGETHER, *FORKED, *options, RUN_SCRIPT, "small.yaml", *arguments]
        started.append(start_forked(folder, torchrun, words))
        return started[-1]

    yield start_run
    for process in started:
        process.kill()


def run_as_a_person(*arguments: str, folder: Path) -> None:
    """Run by two processes, each started by the command line."""
    done = subprocess.run(
        [*TORCHRUN, *TOGETHER, RUN_SCRIPT, "small.yaml", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def epochs_of(run_dir: Path) -> dict[int, dict[str, Any]]:
    """The metrics of each epoch, as the log has them."""
    rows = read_log(run_dir / "log.jsonl")
    return {row["epoch"]: row["metrics"] for row in rows if row["event"] == "epoch"}


def alone(run_dir: Path, checkpoint: Path, side: str) -> dict[str, float]:
    """What one process measures of a checkpoint."""
    changes = [("handlers", "[]"), ("trainer.processes.strategy", "ddp")]
    experiment = Experiment(load_config(str(run_dir / "config.yaml"), changes))
    experiment.setup()
    experiment.trainer.model.load_state_dict(load_checkpoint(checkpoint)["states"]["model"])
    return experiment.evaluator.evaluate(experiment.data.loaders[side])


def test_two_processes_survive_a_kill_and_a_signal(start, settings, tmp_path, capsys, monkeypatch):
    run_dir = Path(settings["runs_dir"]) / "small"
    accidents = "[{name: accidents.KilledWhileTheOtherIsStuck}, {name: accidents.Slow}]"
    endless = ["--handlers", accidents, "--trainer.max_epochs", "5000"]
    endless += ["--checkpoint.monitor", "val/auroc"]  # and so without averaged weights

    # A killed process ends the other, which hangs; torchrun starts both again and they go on.
    run = start(*endless, options=("--max-restarts=1",))
    deadline = time.monotonic() + LIMIT_S
    while not (run_dir / "log.jsonl").exists() or 3 not in epochs_of(run_dir):
        assert time.monotonic() < deadline, (tmp_path / ERR).read_text()
        assert run.is_alive(), (tmp_path / ERR).read_text()
        time.sleep(0.1)
    # A signal to torchrun ends both after the same optimizer step.
    assert run.pid is not None
    os.kill(run.pid, signal.SIGTERM)
    run.join(LIMIT_S)
    out, err = (tmp_path / OUT).read_text(), (tmp_path / ERR).read_text()
    assert (tmp_path / "killed.txt").exists()
    assert (tmp_path / "start-0-rank-0.txt").read_text() == str(PEER_LOST_CODE)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: another process of this job ended")
    assert lines[0].endswith(f"--resume {run_dir}")
    assert out.count("2 processes, joint batch 16 (gloo)") == 2
    assert "resumed: checkpoint last.pt, epoch 1" in out
    assert err.count("SIGTERM: ending after this optimizer step") == 1
    assert "SIGTERM ended the run in epoch" in out
    assert "to continue: --resume" in out
    stopped = load_checkpoint(run_dir / "checkpoints" / "last.pt")["states"]["trainer"]
    assert stopped["iteration"] >= 3 * stopped["epoch_length"]
    told = [int(n) for n in re.findall(r"^epoch +(\d+)/5000", out, re.MULTILINE)]
    assert told == sorted(epochs_of(run_dir)) == list(range(1, len(told) + 1))
    environment = read_yaml((run_dir / "environment.json").read_text(), "environment")
    assert environment["processes"]["number"] == 2
    assert environment["processes"]["backend"] == "gloo"
    assert environment["job"]  # what torchrun calls it

    # What was measured in parts is what one process measures, while training and afterwards.
    checkpoint = max((run_dir / "checkpoints").glob("epoch=*.pt"))
    epoch = int(checkpoint.name.partition("=")[2].partition("-")[0])
    logged = {
        name.removeprefix("val/"): value
        for name, value in epochs_of(run_dir)[epoch].items()
        if name.startswith("val/")
    }
    assert alone(run_dir, checkpoint, "val") == pytest.approx(logged, abs=1e-6, nan_ok=True)

    # Processes that share the weights finish the run.
    epochs = stopped["iteration"] // stopped["epoch_length"] + 2
    shares = ["--trainer.processes.strategy", "fsdp", "--ema.decay", "null"]
    further = ["--resume", "small", "--trainer.max_epochs"]
    run_as_a_person(*further, str(epochs), *shares, folder=tmp_path)
    rows = read_log(run_dir / "log.jsonl")
    assert max(epochs_of(run_dir)) == epochs
    assert rows[-1]["event"] == "run_finished"
    (tested,) = (row["metrics"] for row in rows if row["event"] == "test_completed")
    measured = alone(run_dir, run_dir / "checkpoints" / "best.pt", "test")
    expected = {name: float("nan") if value is None else value for name, value in tested.items()}
    assert measured == pytest.approx(expected, abs=1e-6, nan_ok=True)
    splits = pd.read_csv(run_dir / "splits.csv", dtype=str)
    predicted = pd.read_csv(run_dir / "predictions.csv", dtype=str)["sample_id"]
    assert sorted(predicted) == sorted(splits.query("split == 'test'")["sample_id"])

    # One process alone goes on with what two have saved.
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["small.yaml", *further, str(epochs + 1), "--ema.decay", "null"]) == 0
    assert "saved by 2 processes, continued by 1" in capsys.readouterr().out
    assert sorted(epochs_of(run_dir)) == list(range(1, epochs + 2))


def test_two_processes_report_a_users_mistake_once(start, settings, tmp_path):
    run = start("--checkpoint.monitor", "val/aurroc")
    run.join(LIMIT_S)
    assert run.exitcode not in (None, 0)
    err = (tmp_path / ERR).read_text()
    assert err.count("error: ") == 1
    assert "did you mean 'val/auroc'" in err
    assert len(re.findall(r"exitcode +: 2\b", err)) >= 1
    assert not list(Path(settings["runs_dir"]).iterdir())

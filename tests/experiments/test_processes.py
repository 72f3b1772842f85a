"""Runs by several processes, as a person starts them: ``torchrun experiments/run.py``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from engine.checkpointing import load_checkpoint
from engine.reporting import read_log
from experiments.config import load_config, read_yaml, write_yaml
from experiments.launch import PEER_LOST_CODE
from experiments.run import main
from experiments.runs import Experiment
from tests.experiments.test_run import RUN_SCRIPT

TOGETHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
LIMIT_S = 120

# Handlers that the configurations below name; a run finds modules of the folder it is started in.
ACCIDENTS = '''
import os, signal, time
from pathlib import Path
from ignite.engine import Events


class Killed:
    """The second process is killed in the second epoch, by the first start only."""

    def attach(self, trainer):
        self.done = Path("killed.txt")
        if os.environ.get("RANK") == "1" and not self.done.exists():
            trainer.add_event_handler(Events.ITERATION_STARTED(once=5), self)

    def __call__(self):
        self.done.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class KilledWhileTheOtherIsStuck(Killed):
    """Meanwhile the first waits in a call that no signal ends, as one for a GPU is."""

    def attach(self, trainer):
        super().attach(trainer)
        if os.environ.get("RANK") == "0":
            trainer.add_event_handler(Events.ITERATION_STARTED(once=5), self.wait)

    def wait(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        time.sleep(600)


class Slow:
    """Leaves time for a signal."""

    def attach(self, trainer):
        trainer.add_event_handler(Events.ITERATION_STARTED, lambda: time.sleep(0.02))
'''


@pytest.fixture
def start(settings, tmp_path):
    """Start a run by two processes; more of the configuration comes by name."""
    settings["report"] = {"enabled": False}
    settings["loss"] = {"name": "cross_entropy"}  # a mean over samples, however they are batched
    settings["trainer"].update(batch_size=8, max_epochs=3)
    (tmp_path / "small.yaml").write_text(write_yaml(settings))
    (tmp_path / "accidents.py").write_text(ACCIDENTS)

    def start_run(*arguments: str, torchrun: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        # Files, not pipes: nobody reads while the run goes on.
        with open(tmp_path / "out.txt", "w") as out, open(tmp_path / "err.txt", "w") as err:
            return subprocess.Popen(
                [*TOGETHER, *torchrun, RUN_SCRIPT, "small.yaml", *arguments],
                cwd=tmp_path,
                stdout=out,
                stderr=err,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            )

    return start_run


def epochs_of(run_dir: Path) -> dict[int, dict[str, Any]]:
    """The metrics of each epoch, as the log has them."""
    rows = read_log(run_dir / "log.jsonl")
    return {row["epoch"]: row["metrics"] for row in rows if row["event"] == "epoch"}


def alone(run_dir: Path, checkpoint: Path, side: str) -> dict[str, float]:
    """What one process measures of a checkpoint."""
    experiment = Experiment(load_config(str(run_dir / "config.yaml"), [("handlers", "[]")]))
    experiment.setup()
    experiment.trainer.model.load_state_dict(load_checkpoint(checkpoint)["states"]["model"])
    return experiment.evaluator.evaluate(experiment.data.loaders[side])


def test_two_processes_leave_one_run_and_go_on_where_they_were_when_torchrun_starts_them_again(
    start, settings, tmp_path
):
    accident = ["--handlers", "[{name: accidents.Killed}]"]
    run = start(*accident, torchrun=("--max-restarts=1",))
    assert run.wait(LIMIT_S) == 0, (tmp_path / "err.txt").read_text()
    out, err = (tmp_path / "out.txt").read_text(), (tmp_path / "err.txt").read_text()
    assert (tmp_path / "killed.txt").exists()

    # One process speaks, in each of the two starts.
    assert out.count("2 processes, joint batch 16 (gloo)") == 2
    assert [int(n) for n in re.findall(r"^epoch +(\d)/3", out, re.MULTILINE)] == [1, 2, 3]
    assert "resumed: checkpoint last.pt, epoch 1" in out
    assert err.count("error: another process of this job ended") == 1

    (run_dir,) = Path(settings["runs_dir"]).iterdir()
    rows = read_log(run_dir / "log.jsonl")
    assert sorted(epochs_of(run_dir)) == [1, 2, 3]
    assert rows[-1]["event"] == "run_finished"
    environment = read_yaml((run_dir / "environment.json").read_text(), "environment")
    assert environment["processes"]["number"] == 2
    assert environment["processes"]["backend"] == "gloo"
    assert environment["job"]  # what torchrun calls it

    # What was measured in parts is what one process measures, while training and afterwards.
    (checkpoint,) = (run_dir / "checkpoints").glob("epoch=003-*.pt")
    logged = {
        name.removeprefix("val/"): value
        for name, value in epochs_of(run_dir)[3].items()
        if name.startswith("val/")
    }
    assert alone(run_dir, checkpoint, "val") == pytest.approx(logged, abs=1e-6, nan_ok=True)
    (tested,) = (row["metrics"] for row in rows if row["event"] == "test_completed")
    measured = alone(run_dir, run_dir / "checkpoints" / "best.pt", "test")
    expected = {name: float("nan") if value is None else value for name, value in tested.items()}
    assert measured == pytest.approx(expected, abs=1e-6, nan_ok=True)
    splits = pd.read_csv(run_dir / "splits.csv", dtype=str)
    predicted = pd.read_csv(run_dir / "predictions.csv", dtype=str)["sample_id"]
    assert sorted(predicted) == sorted(splits.query("split == 'test'")["sample_id"])


def test_where_a_process_is_killed_the_other_says_so_and_leaves_and_one_alone_can_go_on(
    start, settings, tmp_path, capsys, monkeypatch
):
    run = start("--handlers", "[{name: accidents.KilledWhileTheOtherIsStuck}]")
    assert run.wait(LIMIT_S) != 0
    err = (tmp_path / "err.txt").read_text()
    run_dir = Path(settings["runs_dir"]) / "small"
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: another process of this job ended")
    assert lines[0].endswith(f"--resume {run_dir}")
    assert re.search(rf"exitcode +: {PEER_LOST_CODE}\b", err)

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["small.yaml", "--resume", "auto"]) == 0
    out = capsys.readouterr().out
    assert "saved by 2 processes, continued by 1" in out
    assert sorted(epochs_of(run_dir)) == [1, 2, 3]


def test_a_signal_to_torchrun_stops_all_in_order_and_processes_that_share_the_weights_go_on(
    start, settings, tmp_path
):
    run_dir = Path(settings["runs_dir"]) / "small"
    run = start("--handlers", "[{name: accidents.Slow}]", "--trainer.max_epochs", "5000")
    deadline = time.monotonic() + LIMIT_S
    while not (run_dir / "log.jsonl").exists() or 2 not in epochs_of(run_dir):
        assert time.monotonic() < deadline, (tmp_path / "err.txt").read_text()
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    run.wait(LIMIT_S)
    out, err = (tmp_path / "out.txt").read_text(), (tmp_path / "err.txt").read_text()
    assert err.count("SIGTERM: ending after this optimizer step") == 1
    assert "SIGTERM ended the run in epoch" in out
    assert "to continue: --resume" in out
    stopped = load_checkpoint(run_dir / "checkpoints" / "last.pt")["states"]["trainer"]
    assert stopped["iteration"] >= 2 * stopped["epoch_length"]

    epochs = str(stopped["iteration"] // stopped["epoch_length"] + 2)
    shares = ["--trainer.processes.strategy", "fsdp", "--ema.decay", "null"]
    resumed = start("--resume", "small", "--trainer.max_epochs", epochs, *shares)
    assert resumed.wait(LIMIT_S) == 0, (tmp_path / "err.txt").read_text()
    assert max(epochs_of(run_dir)) == int(epochs)
    assert read_log(run_dir / "log.jsonl")[-1]["event"] == "run_finished"


def test_what_a_user_can_mend_is_said_once_and_leaves_nothing_behind(start, settings, tmp_path):
    run = start("--checkpoint.monitor", "val/aurroc")
    assert run.wait(LIMIT_S) != 0
    err = (tmp_path / "err.txt").read_text()
    assert err.count("error: ") == 1
    assert "did you mean 'val/auroc'" in err
    assert len(re.findall(r"exitcode +: 2\b", err)) >= 1
    assert not list(Path(settings["runs_dir"]).iterdir())

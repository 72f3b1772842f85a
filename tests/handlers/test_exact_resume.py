"""A run that was cut off, however it was, ends like one that was not."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from engine import Phase
from engine.checkpointing import load_checkpoint, newest_whole_checkpoint
from engine.reporting import read_log
from handlers.checkpoint import Checkpoint
from handlers.early_stopping import EarlyStopping
from handlers.lr_schedule import LRSchedule
from handlers.run_log import RunLog
from handlers.step_log import StepLog
from tests.engine.test_trainer import ResumableLoader, weights


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def build(make_trainer, run_dir, **checkpoint):
    """A trainer with everything that follows the steps and the epochs."""
    run_dir.mkdir(exist_ok=True)
    trainer = make_trainer()
    trainer.run_dir = run_dir
    trainer.attach(
        RunLog(monitor="train/auroc"),
        LRSchedule("cosine", warmup_steps=4),
        EarlyStopping("train/loss", patience=50),
        Checkpoint(**{"monitor": "train/auroc", "save_top_k": 2, **checkpoint}),
        StepLog(every=2),
    )
    return trainer


def resume(make_trainer, run_dir, **checkpoint):
    trainer = build(make_trainer, run_dir, **checkpoint)
    torch.manual_seed(random.randrange(10**6))  # no stream may be left as the process had it
    trainer.restore(newest_whole_checkpoint(run_dir / "checkpoints")[1]["states"])
    return trainer


def log_rows(run_dir):
    """The log without times, and without what only a resumed run has."""
    resumed = ("run_resumed", "nothing_to_train")
    rows = [row for row in read_log(run_dir / "log.jsonl") if row["event"] not in resumed]
    times = ("time", "seconds", "max_epochs")
    return [{key: row[key] for key in row if key not in times} for row in rows]


def assert_same_runs(straight, resumed):
    assert torch.equal(weights(straight), weights(resumed))
    a, b = straight.run_dir, resumed.run_dir
    assert log_rows(a) == log_rows(b)
    for table in ("metrics.csv", "metrics.json"):
        assert (a / table).read_text() == (b / table).read_text()
    assert names(a / "checkpoints") == names(b / "checkpoints")
    for name in names(a / "checkpoints"):
        saved = [load_checkpoint(run / "checkpoints" / name)["states"] for run in (a, b)]
        for part in ("checkpoint", "early_stopping", "lr_schedule", "step_log"):
            assert saved[0][part] == saved[1][part]
        for key, weight in saved[0]["model"].items():
            assert torch.equal(weight, saved[1]["model"][key])


def straight_run(make_trainer, tmp_path, epochs=4, **checkpoint):
    trainer = build(make_trainer, tmp_path / "straight", **checkpoint)
    torch.manual_seed(5)
    trainer.fit(ResumableLoader(), epochs)
    return trainer


def test_two_epochs_and_two_resumed_are_four(make_trainer, tmp_path):
    straight = straight_run(make_trainer, tmp_path)
    cut = build(make_trainer, tmp_path / "cut")
    cut.add_event_handler(
        Events.EPOCH_COMPLETED(once=2), lambda: cut.terminate(), phase=Phase.REPORT
    )
    torch.manual_seed(5)
    cut.fit(ResumableLoader(), 4)
    resumed = resume(make_trainer, tmp_path / "cut")
    resumed.fit(ResumableLoader(), 4)
    assert_same_runs(straight, resumed)


@pytest.mark.parametrize("iteration", [1, 7, 10, 13])
def test_a_run_told_to_stop_continues_as_if_it_had_not_been(make_trainer, tmp_path, iteration):
    straight = straight_run(make_trainer, tmp_path, every_steps=3)
    cut = build(make_trainer, tmp_path / "cut", every_steps=3)
    cut.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), lambda: cut.terminate())
    torch.manual_seed(5)
    cut.fit(ResumableLoader(), 4)
    resumed = resume(make_trainer, tmp_path / "cut", every_steps=3)
    assert resumed.state.iteration == iteration
    resumed.fit(ResumableLoader(), 4)
    assert_same_runs(straight, resumed)


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_run_cut_at_any_file_operation_resumes_exactly(make_trainer, tmp_path, monkeypatch):
    """The process dies just before, or just after, a file takes its name or is removed."""
    straight = straight_run(make_trainer, tmp_path)
    replace, unlink = os.replace, Path.unlink
    count, die_at = 0, 0

    def step(operation):
        def dying(*args, **kwargs):
            nonlocal count
            if args and "checkpoints" not in str(args[0]):
                return operation(*args, **kwargs)
            count += 1
            if count == die_at:
                raise Killed
            result = operation(*args, **kwargs)
            if count == -die_at:
                raise Killed
            return result

        return dying

    cuts = 0
    for die_at in [*range(4, 14), *range(-14, -4)]:
        run_dir = tmp_path / f"cut{die_at}"
        cut = build(make_trainer, run_dir)
        torch.manual_seed(5)
        count = 0
        monkeypatch.setattr(os, "replace", step(replace))
        monkeypatch.setattr(Path, "unlink", step(unlink))
        try:
            cut.fit(ResumableLoader(), 4)
        except Killed:
            cuts += 1
        finally:
            monkeypatch.undo()
        resumed = resume(make_trainer, run_dir)
        resumed.fit(ResumableLoader(), 4)
        assert_same_runs(straight, resumed)
    assert cuts >= 15


def train_slowly(make_trainer, run_dir):
    torch.set_num_threads(1)
    if (run_dir / "checkpoints" / "last.pt").exists():
        trainer = resume(make_trainer, run_dir, every_steps=1)
    else:
        trainer = build(make_trainer, run_dir, every_steps=1)
        torch.manual_seed(5)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: time.sleep(0.002))
    trainer.fit(ResumableLoader(), 4)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_resumes_exactly(make_trainer, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("where a GPU is, a backward pass leaves threads with which no fork can train")
    straight = straight_run(make_trainer, tmp_path, every_steps=1)
    run_dir, choose = tmp_path / "killed", random.Random(0)
    process = multiprocessing.get_context("fork").Process
    for _ in range(8):
        child = process(target=train_slowly, args=(make_trainer, run_dir))
        child.start()
        time.sleep(choose.uniform(0.02, 0.2))
        child.kill()
        child.join()
    child = process(target=train_slowly, args=(make_trainer, run_dir))
    child.start()
    child.join()
    assert child.exitcode == 0
    finished = resume(make_trainer, run_dir, every_steps=1)
    assert finished.state.iteration == 20
    assert_same_runs(straight, finished)


def test_a_finished_run_that_is_resumed_leaves_its_files_alone(make_trainer, tmp_path):
    straight = straight_run(make_trainer, tmp_path)
    before = {p: p.read_bytes() for p in (straight.run_dir / "checkpoints").iterdir()}
    resumed = resume(make_trainer, straight.run_dir)
    resumed.fit(ResumableLoader(), 4)
    assert {p: p.read_bytes() for p in (straight.run_dir / "checkpoints").iterdir()} == before

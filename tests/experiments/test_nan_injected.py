"""A NaN turns up in a run of the command line; what reaches the disk is whole."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file

from engine.checkpointing import load_checkpoint
from engine.reporting import read_log
from experiments.config import write_yaml
from experiments.run import main
from handlers.nan_guard import POLICIES

pytestmark = pytest.mark.slow

# With settings as the fixture gives them: two epochs of three iterations.
STEPS = 6
# A user's module: one handler breaks an iteration, the other reads every checkpoint as it is made.
BREAKS = """
import random

import torch
from ignite.engine import Events

from engine import TrainEvents
from engine.checkpointing.checkpoint_files import load_checkpoint

WHOLE = []

class BreakOnce:
    def __init__(self, iteration, place):
        self.iteration, self.place = iteration, place

    def attach(self, trainer):
        event = TrainEvents.LOSS_COMPLETED if self.place == "loss" else (
            TrainEvents.BACKWARD_COMPLETED
        )
        trainer.add_event_handler(event(once=self.iteration), self)

    def __call__(self, trainer):
        if self.place == "loss":
            losses = trainer.state.losses
            trainer.state.losses = {**losses, "total_loss": losses["total_loss"] * float("nan")}
        else:
            gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
            random.Random(self.iteration).choice(gradients).view(-1)[0] = float("nan")

class ReadCheckpoints:
    def attach(self, trainer):
        trainer.add_event_handler(TrainEvents.LOG_EVENT, self)

    def __call__(self, trainer):
        notice = trainer.state.notice
        if notice["event"] == "checkpoint_saved":
            for name in notice["files"]:
                states = load_checkpoint(trainer.run_dir / "checkpoints" / name)["states"]
                tensors = [*states["model"].values(), *states["ema"]["average"].values()]
                WHOLE.append(all(bool(torch.isfinite(t).all()) for t in tensors))
"""


@pytest.fixture
def run_with_nan(settings, tmp_path, monkeypatch):
    """Run the command line with NaNs: ``run(guard, loss=2)`` for one in the second loss.

    Returns the run's folder and whether each checkpoint was whole.
    """
    (tmp_path / "breaks.py").write_text(BREAKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "breaks", raising=False)

    def run(*guards, **places):
        settings["report"] = {"enabled": False, "resamples": 0}
        settings["audit"] = {"enabled": False}
        settings["ema"] = {"decay": 0.9}
        settings["checkpoint"] = {"every_steps": 1}
        settings["handlers"] = [
            *guards,
            *[
                {"name": "breaks.BreakOnce", "params": {"iteration": iteration, "place": place}}
                for place, iteration in places.items()
            ],
            {"name": "breaks.ReadCheckpoints"},
        ]
        (tmp_path / "small.yaml").write_text(write_yaml(settings))
        assert main([str(tmp_path / "small.yaml")]) == 0
        return tmp_path / "runs" / "small", sys.modules["breaks"].WHOLE

    return run


def tensors_on_disk(run_dir):
    for path in (run_dir / "checkpoints").glob("*"):
        if path.name == "model.safetensors":
            yield from load_file(path).values()
        elif path.name == "last.pt" or path.name == "best.pt" or path.name.startswith("epoch="):
            states = load_checkpoint(path)["states"]
            yield from states["model"].values()
            yield from states["ema"]["average"].values()
            for memory in states["optimizer"]["state"].values():
                yield from memory.values()


@pytest.mark.parametrize(
    ("policy", "places"),
    [
        # A run that is stopped has one; the others have both, in the first and the second epoch.
        ("stop", {"loss": 5}),
        ("stop", {"gradient": 2}),
        *[(policy, {"loss": 2, "gradient": 5}) for policy in POLICIES if policy != "stop"],
    ],
)
def test_under_every_policy_the_weights_on_disk_are_whole(run_with_nan, policy, places):
    guard = {"name": "handlers.nan_guard.NaNGuard", "params": {"policy": policy}}
    run_dir, whole = run_with_nan(guard, **places)
    assert len(whole) >= max(places.values()) - len(places)
    assert all(whole)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors_on_disk(run_dir))
    events = [row["event"] for row in read_log(run_dir / "log.jsonl")]
    assert events.count("step_skipped") == len(places)
    assert ("rolled_back" in events) == (policy == "rollback")
    assert ("training_stopped" in events) == (policy == "stop")
    assert ("run_terminated" in events) == (policy == "stop" and min(places.values()) < STEPS)


def test_without_a_guard_too_no_checkpoint_holds_a_nan(run_with_nan):
    run_dir, whole = run_with_nan(gradient=4)  # the first epoch is whole
    assert len(whole) >= 3
    assert all(whole)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors_on_disk(run_dir))
    events = [row["event"] for row in read_log(run_dir / "log.jsonl")]
    assert "checkpoint_skipped" in events

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events

from experiments.benchmarks import step_clock
from experiments.benchmarks.step_clock import LEAST_WINDOWS, StepClock
from experiments.benchmarks.step_profile import StepProfile
from experiments.benchmarks.step_settings import Repeated


@pytest.fixture
def steps(monkeypatch, make_trainer, loader):
    """Trains with a clock whose steps take 2 seconds each; returns how many there were."""

    def train(clock):
        trainer = make_trainer()
        now = [0.0]

        def pass_time():
            now[0] += 2.0

        monkeypatch.setattr(step_clock.time, "perf_counter", lambda: now[0])
        trainer.add_event_handler(Events.ITERATION_STARTED, pass_time)
        trainer.attach(clock)
        trainer.fit(Repeated(list(loader)), max_epochs=1)
        return trainer.state.iteration

    return train


def test_as_many_steps_are_timed_as_fit_into_the_time(steps):
    clock = StepClock(seconds=20.0, warmup=3)
    # The warm-up, one to plan by, one left out.
    assert steps(clock) == 3 + 1 + 1 + 10
    assert clock.ms == [2000.0] * 10
    assert clock.median_ms == 2000.0


def test_there_are_never_too_few_for_a_median(steps):
    clock = StepClock(seconds=0.0, warmup=1)
    steps(clock)
    assert len(clock.ms) == LEAST_WINDOWS


def test_a_number_of_steps_may_be_asked_for(steps):
    clock = StepClock(seconds=20.0, warmup=1, steps=6)
    steps(clock)
    assert len(clock.ms) == 6


def test_windows_of_several_steps_are_timed_as_a_whole(steps, monkeypatch):
    monkeypatch.setitem(step_clock.WINDOW, "cpu", 4)
    clock = StepClock(seconds=0.0, warmup=2, steps=13)
    assert steps(clock) == 2 + 4 + 4 + 16
    assert clock.ms == [2000.0] * 4


def test_processes_can_agree_on_how_many(steps):
    asked = []

    def agree(windows):
        asked.append(windows)
        return 7

    clock = StepClock(seconds=20.0, warmup=1, agree=agree)
    steps(clock)
    assert asked == [10]
    assert len(clock.ms) == 7


def test_a_profile_is_taken_after_all_is_timed(steps):
    profile, timed = StepProfile(steps=2), []
    clock = StepClock(
        seconds=20.0,
        warmup=1,
        profile=profile,
        when_timed=lambda: timed.append((len(clock.ms), profile.groups)),
    )
    assert steps(clock) == 1 + 1 + 1 + 10 + 2
    assert len(clock.ms) == 10
    assert timed == [(10, {})]
    assert profile.groups["optimizer"] > 0


def test_a_gpu_is_waited_for_before_and_after_but_not_between(monkeypatch):
    waited: list[int] = []
    done = [0]

    class Mark:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            self.at = 3.0 * done[0]

        def elapsed_time(self, later):
            return later.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Mark)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(done[0]))
    ended: list[int] = []
    trainer = SimpleNamespace(
        device=torch.device("cuda"),
        add_event_handler=lambda event, handler: None,
        terminate=lambda: ended.append(done[0]),
    )
    clock = StepClock(seconds=0.0, warmup=8, steps=50)
    clock.attach(trainer)  # type: ignore[arg-type]
    while not ended:
        done[0] += 1
        clock(trainer)  # type: ignore[arg-type]
    assert clock.ms == [3.0] * 5
    assert waited == [8, 18, 78]
    assert ended == [78]

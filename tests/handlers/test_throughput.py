from __future__ import annotations

import io
import time

import pytest
import torch
from ignite.engine import Events

from engine import EpochMetrics, Phase, Trainer, TrainEvents, build_optimizer
from engine.losses import CrossEntropy
from handlers.accumulation import Accumulation
from handlers.throughput import GpuClock, Throughput
from handlers.validation import Validation
from tests.no_waiting import refuse_waiting_in_steps
from tests.tiny_problem import TinyLoader, TinyModel

NAMES = ("time/samples_per_second", "time/data_wait", "time/step_ms")
NAP = 0.01
CLOCK_CYCLES = 400_000_000  # a fifth of a second, or more


class SlowLoader(TinyLoader):
    def __iter__(self):
        for batch in self.batches:
            time.sleep(NAP)
            yield batch


def speed(trainer):
    return [trainer.state.metrics[name] for name in NAMES]


def test_time_in_the_loader_is_waiting_time_in_the_step_is_not(make_trainer, loader):
    waiting, working = make_trainer(), make_trainer()
    waiting.attach(Throughput())
    waiting.fit(SlowLoader(), 2)
    working.attach(Throughput())
    working.add_event_handler(TrainEvents.FORWARD_COMPLETED, lambda: time.sleep(NAP))
    working.fit(loader, 2)
    assert waiting.state.metrics["time/data_wait"] > 0.5
    assert working.state.metrics["time/data_wait"] < 0.2


def test_the_figures_belong_together(make_trainer):
    trainer = make_trainer()
    trainer.attach(Throughput(), Accumulation(2))
    trainer.fit(SlowLoader(), 1)
    samples_per_second, data_wait, step_ms = speed(trainer)
    # Twenty samples in five batches make windows of 2, 2 and 1.
    assert step_ms * 3 / 1000 == pytest.approx(20 / samples_per_second)
    assert step_ms >= 1000 * 5 * NAP / 3
    assert 0 < data_wait <= 1


@pytest.mark.slow
def test_validation_is_no_part_of_it(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    evaluator = make_evaluator(trainer)
    evaluator.add_event_handler(Events.ITERATION_STARTED, lambda: time.sleep(0.1))
    trainer.attach(Validation(evaluator, loader), Throughput())
    trainer.fit(loader, 1)
    assert trainer.state.metrics["time/step_ms"] < 100
    trainer.fit(loader, 2)
    assert trainer.state.metrics["time/step_ms"] < 100


def test_each_epoch_is_measured_on_its_own(make_trainer, loader):
    trainer, seen = make_trainer(), []
    trainer.attach(Throughput())
    slow = trainer.add_event_handler(Events.ITERATION_STARTED, lambda: time.sleep(2 * NAP))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(speed(trainer)[2]))
    trainer.fit(loader, 1)
    slow.remove()
    trainer.fit(loader, 2)
    assert seen[0] >= 2000 * NAP > seen[1]


def test_the_parts_of_a_cut_epoch_are_added_up(make_trainer, loader):
    cut, resumed, file = make_trainer(), make_trainer(), io.BytesIO()
    cut.attach(Throughput())
    cut.add_event_handler(Events.ITERATION_STARTED, lambda: time.sleep(NAP))

    @cut.on(Events.ITERATION_COMPLETED(once=3))
    def leave():
        cut.terminate()

    cut.fit(loader, 1)
    torch.save(cut.capture(), file)
    file.seek(0)
    resumed.attach(Throughput())
    resumed.restore(torch.load(file, weights_only=True))
    time.sleep(0.2)  # not counted
    resumed.fit(loader, 1)
    samples_per_second, _, step_ms = speed(resumed)
    assert 1000 * 3 * NAP / 5 <= step_ms < 1000 * (3 * NAP + 0.2) / 5
    assert samples_per_second * step_ms == pytest.approx(1000 * 20 / 5)


def test_the_step_waits_for_no_device(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Throughput())
    refuse_waiting_in_steps(trainer)
    trainer.fit(loader, 1)
    assert set(NAMES) <= trainer.state.metrics.keys()


@pytest.mark.parametrize("done", [True, False])
def test_a_lagging_gpu_is_read_only_when_done(make_trainer, loader, monkeypatch, done):
    class Mark:
        def query(self):
            return done

        def elapsed_time(self, later):
            assert done
            return 5000.0

    monkeypatch.setattr(GpuClock, "now", lambda clock: Mark())
    trainer, throughput = make_trainer(), Throughput()
    trainer.attach(throughput)
    as_on_a_gpu(trainer, throughput)
    trainer.fit(loader, 1)
    step_ms = trainer.state.metrics["time/step_ms"]
    assert step_ms == pytest.approx(1000) if done else step_ms < 500


def as_on_a_gpu(trainer, throughput):
    trainer.add_event_handler(
        Events.EPOCH_STARTED,
        lambda: setattr(throughput, "_gpu", GpuClock(torch.device("cuda"))),
        phase=Phase.REPORT,
    )


def test_on_a_gpu_only_its_own_waiting_is_waiting(make_trainer, monkeypatch):
    """The loop waits for the loader in every step; the GPU is busy, but for 2 s of each 4."""
    clock = iter(range(0, 1000, 2))

    class Mark:
        def __init__(self):
            self.at = next(clock)

        def query(self):
            return True

        def elapsed_time(self, later):
            return 1000.0 * (later.at - self.at)

    monkeypatch.setattr(GpuClock, "now", lambda clock: Mark())
    trainer, throughput = make_trainer(), Throughput()
    trainer.attach(throughput)
    as_on_a_gpu(trainer, throughput)
    trainer.fit(SlowLoader(), 1)
    # Marks: the beginning, asked and given for each of five batches, the end: 11 spans of 2 s.
    assert trainer.state.metrics["time/data_wait"] == pytest.approx(5 / 11)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_queued_gpu_work_after_the_last_step_is_counted(loader):
    model = TinyModel()
    trainer = Trainer(model, build_optimizer(model, "adamw"), CrossEntropy(), device="cuda")
    EpochMetrics().attach(trainer)
    trainer.attach(Throughput())
    trainer.fit(loader, 1)
    # Queued behind the last step; the host goes on at once.
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=10), lambda: torch.cuda._sleep(CLOCK_CYCLES)
    )
    trainer.fit(loader, 2)
    assert trainer.state.metrics["time/step_ms"] * 5 > 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("busy", [True, False])
def test_a_gpu_that_is_busy_does_not_wait_for_a_slow_loader(busy):
    model, loader = TinyModel(), SlowLoader(samples=80)
    trainer = Trainer(model, build_optimizer(model, "adamw"), CrossEntropy(), device="cuda")
    EpochMetrics().attach(trainer)
    trainer.attach(Throughput())
    trainer.fit(loader, 1)
    if busy:
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda: torch.cuda._sleep(CLOCK_CYCLES)
        )
    trainer.fit(loader, 2)
    waited = trainer.state.metrics["time/data_wait"]
    assert waited < 0.1 if busy else waited > 0.5

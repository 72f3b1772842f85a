"""Steps that moved no weight move neither the schedule nor averaged weights."""

from __future__ import annotations

import io

import pytest
import torch
from ignite.engine import Events

from engine import TrainEvents
from engine.optim.optimizers import learning_rate
from handlers.ema import EMA
from handlers.lr_schedule import LRSchedule
from handlers.mixed_precision import MixedPrecision
from handlers.nan_guard import NaNGuard
from tests.tiny_problem import TinyLoader

BAD = (2, 5, 6)


class Cut(TinyLoader):
    """Twelve batches; can start in the middle of an epoch."""

    def __init__(self):
        super().__init__(samples=48)
        self.batch_sampler, self.position = self, 0

    def set_epoch(self, epoch):
        self.position = 0

    def resume_at(self, epoch, position):
        self.position = position

    def __iter__(self):
        return iter(self.batches[self.position :])


def build(make_trainer, where, averager=None):
    """A trainer whose steps of ``BAD`` overflow, judged on the host or left to the device."""
    torch.manual_seed(0)
    trainer = make_trainer()
    averager = EMA(decay=0.9) if averager is None else averager
    if where == "host":
        precision = MixedPrecision("fp32")
        trainer.attach(precision)
        precision.scaler = torch.amp.GradScaler("cpu", init_scale=1.0, growth_interval=1000)
    else:
        trainer.attach(NaNGuard(check_every=100))
    trainer.attach(averager, LRSchedule("cosine", warmup_steps=2))

    @trainer.on(TrainEvents.BACKWARD_COMPLETED)
    def overflow(trainer):
        if trainer.state.iteration in BAD:
            trainer.model.head.weight.grad[0, 0] = float("inf")

    return trainer, averager


@pytest.mark.parametrize("where", ["host", "device"])
def test_skipped_steps_are_not_counted(make_trainer, where):
    trainer, _ = build(make_trainer, where)
    loader = Cut()
    trainer.fit(loader, 2)
    assert trainer.state.optimizer_step == 2 * len(loader) - len(BAD)


@pytest.mark.parametrize("where", ["host", "device"])
def test_the_schedule_follows_the_steps_that_were_taken(make_trainer, where):
    trainer, _ = build(make_trainer, where)
    trainer.fit(Cut(), 2)
    schedule = LRSchedule("cosine", warmup_steps=2)
    other = make_trainer()
    other.attach(schedule)
    other.state.optimizer_step = trainer.state.optimizer_step
    other.state.epoch_length, other.state.max_epochs = len(Cut()), 2
    schedule.start(other)
    assert learning_rate(trainer.optimizer) == learning_rate(other.optimizer) > 0


@pytest.mark.parametrize("where", ["host", "device"])
def test_the_average_stays_where_no_weight_moved(make_trainer, where):
    trainer, ema = build(make_trainer, where)
    before: dict[int, torch.Tensor] = {}
    after: dict[int, torch.Tensor] = {}

    @trainer.on(Events.ITERATION_STARTED)
    @trainer.on(Events.ITERATION_COMPLETED)
    def look(trainer):
        kept = before if trainer.last_event_name == Events.ITERATION_STARTED else after
        average = ema.state_dict()["average"].values()
        kept[trainer.state.iteration] = torch.cat([each.flatten() for each in average]).clone()

    trainer.fit(Cut(), 1)
    still = [number for number in after if torch.equal(before[number], after[number])]
    assert still == list(BAD)


def test_a_run_cut_before_a_verdict_is_read_ends_the_same(make_trainer):
    whole, averager = build(make_trainer, "device")
    states = io.BytesIO()

    @whole.on(Events.ITERATION_COMPLETED(once=7))  # 5 and 6 are bad, and not taken back yet
    def save(trainer):
        assert trainer.left_out_steps.state_dict() == {"taken_back": 1, "verdicts": [1.0, 1.0, 0.0]}
        torch.save(trainer.capture(), states)

    whole.fit(Cut(), 1)
    states.seek(0)
    other, average = build(make_trainer, "device")
    other.restore(torch.load(states, weights_only=True))
    other.fit(Cut(), 1)
    assert other.state.optimizer_step == whole.state.optimizer_step
    for mine, theirs in zip(whole.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    for name, value in averager.state_dict()["average"].items():
        assert torch.equal(value, average.state_dict()["average"][name])


def test_overflowed_steps_are_counted_in_the_log(make_trainer):
    trainer, _ = build(make_trainer, "host")
    notices = []
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: notices.append(t.state.notice))
    trainer.fit(Cut(), 1)
    assert trainer.state.metrics["train/overflowed_steps"] == len(BAD)
    (line,) = [each["message"] for each in notices if each["event"] == "steps_overflowed"]
    assert line == "epoch 1: 3 steps overflowed in fp16 and moved no weight"
    trainer.fit(Cut(), 2)
    assert trainer.state.metrics["train/overflowed_steps"] == 0

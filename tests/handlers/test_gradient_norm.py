from __future__ import annotations

import io
import math

import pytest
import torch
from ignite.engine import Events

from engine import TrainEvents, UsageError
from handlers.accumulation import Accumulation
from handlers.gradient_clipping import GradientClipping
from handlers.gradient_norm import GradientNorm
from tests.engine.test_trainer import ResumableLoader
from tests.no_waiting import refuse_waiting_in_steps

MEAN, LARGEST = "train/grad_norm", "train/grad_norm_max"


def through_a_file(states):
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def by_hand(trainer):
    """Torch's own norm of each step, before any handler of GRADIENTS_READY."""
    norms = []

    @trainer.on(TrainEvents.BACKWARD_COMPLETED)
    def measure(trainer):
        if trainer.state.sync_gradients:
            gradients = [p.grad for p in trainer.model.parameters()]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    return norms


@pytest.mark.parametrize("order", [1, -1])
def test_the_norm_is_before_clipping_in_any_order_of_attaching(make_trainer, loader, order):
    trainer = make_trainer()
    norms = by_hand(trainer)
    trainer.attach(*[GradientClipping(0.01), GradientNorm()][::order])
    trainer.fit(loader, 1)
    assert trainer.state.metrics[MEAN] == pytest.approx(sum(norms) / 5, rel=1e-5)
    assert trainer.state.metrics[LARGEST] == pytest.approx(max(norms), rel=1e-5)


def test_each_epoch_is_measured_for_itself(make_trainer, loader):
    trainer, seen = make_trainer(lr=0.1), []
    norms = by_hand(trainer)
    trainer.attach(GradientNorm())
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda t: seen.append(t.state.metrics[MEAN]))
    trainer.fit(loader, 2)
    assert seen == pytest.approx([sum(norms[:5]) / 5, sum(norms[5:]) / 5], rel=1e-5)


def test_under_accumulation_it_is_the_norm_of_the_whole_window(make_trainer, loader):
    trainer = make_trainer()
    norms = by_hand(trainer)
    trainer.attach(Accumulation(2), GradientNorm())
    trainer.fit(loader, 1)
    assert len(norms) == 3
    assert trainer.state.metrics[MEAN] == pytest.approx(sum(norms) / 3, rel=1e-5)


def test_every_selects_the_measured_steps(make_trainer, loader):
    trainer, seen = make_trainer(), []
    norms = by_hand(trainer)
    trainer.attach(GradientNorm(every=12))
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda t: seen.append(t.state.metrics.get(MEAN))
    )
    trainer.fit(loader, 3)
    assert seen == [pytest.approx(norms[0]), None, pytest.approx(norms[12])]


def test_frozen_parameters_have_no_part_in_it(make_trainer, loader):
    trainer = make_trainer()
    trainer.model.body.requires_grad_(False)
    trainer.attach(GradientNorm())
    heads = []
    trainer.add_event_handler(
        TrainEvents.GRADIENTS_READY,
        lambda t: heads.append(
            math.hypot(*(float(p.grad.norm()) for p in t.model.head.parameters()))
        ),
    )
    trainer.fit(loader, 1)
    assert trainer.state.metrics[LARGEST] == pytest.approx(max(heads), rel=1e-5)


def test_a_norm_that_is_not_finite_is_left_out_and_announced(make_trainer, loader):
    trainer, notices = make_trainer(), []
    norms = by_hand(trainer)
    trainer.attach(GradientNorm())
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: notices.append(t.state.notice))

    def overflow(trainer):
        if trainer.state.iteration in (2, 6, 7, 8, 9, 10):
            trainer.model.head.bias.grad.fill_(math.inf)

    def leave_out(trainer):
        trainer.state.skip_step = not trainer.model.head.bias.grad.isfinite().all()

    trainer.add_event_handler(TrainEvents.BACKWARD_COMPLETED, overflow)
    trainer.add_event_handler(TrainEvents.GRADIENTS_READY, leave_out)
    trainer.fit(loader, 1)
    del norms[1]
    assert trainer.state.metrics[MEAN] == pytest.approx(sum(norms) / 4, rel=1e-5)
    assert notices == [{"event": "gradients_not_finite", "epoch": 1, "steps": 1, "of": 5}]
    trainer.fit(loader, 2)
    assert math.isnan(trainer.state.metrics[MEAN])
    assert math.isnan(trainer.state.metrics[LARGEST])


def test_nothing_in_a_step_waits_for_the_device(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(GradientNorm(), GradientClipping())
    refuse_waiting_in_steps(trainer)
    trainer.fit(loader, 2)
    assert trainer.state.metrics[MEAN] > 0


def test_an_epoch_that_was_cut_reports_all_of_its_steps(make_trainer):
    straight, cut, resumed = make_trainer(), make_trainer(), make_trainer(seed=9)
    states = {}
    for trainer in (straight, cut, resumed):
        trainer.attach(GradientNorm(every=2))
    torch.manual_seed(5)
    straight.fit(ResumableLoader(), 2)

    @cut.on(Events.ITERATION_COMPLETED(once=8))
    def save_and_leave():
        states.update(through_a_file(cut.capture()))
        cut.terminate()

    torch.manual_seed(5)
    cut.fit(ResumableLoader(), 2)
    resumed.restore(states)
    resumed.fit(ResumableLoader(), 2)
    assert resumed.state.metrics == straight.state.metrics
    assert straight.state.metrics[LARGEST] > 0


def test_its_metrics_can_be_monitored(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(GradientNorm())
    trainer.monitor_metric(MEAN, "a user")
    trainer.monitor_metric(LARGEST, "a user")
    trainer.check_monitors()


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_a_period_that_is_no_whole_number_is_refused(every):
    with pytest.raises(UsageError, match=r"gradient_norm.every: a whole number"):
        GradientNorm(every)

"""A run that is told to stop does so where a checkpoint can continue from."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events

from engine import Phase, TrainEvents
from tests.engine.test_trainer import ResumableLoader, weights


def windows_of_two(trainer):
    """What the accumulation handler does."""

    def place(trainer):
        state = trainer.state
        position = (state.iteration - 1) % state.epoch_length
        state.sync_gradients = position % 2 == 1 or position == state.epoch_length - 1

    trainer.add_event_handler(Events.ITERATION_STARTED, place, phase=Phase.PREPARE)


def stop_at(trainer, event, iteration):
    """Ask once for the end when ``event`` fires in that iteration; where training then ended."""
    asked: list[object] = []
    ended: list[object] = []

    def stop(trainer):
        if trainer.state.iteration == iteration and not asked:
            asked.append(event)
            trainer.log_event("told_to_stop")
            trainer.terminate()

    trainer.add_event_handler(event, stop)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: ended.append("epoch"))
    trainer.add_event_handler(Events.TERMINATE, lambda t: ended.append(t.state.iteration))
    trainer.fit(ResumableLoader(), 3)
    return ended


WITHIN = [
    Events.ITERATION_STARTED,
    TrainEvents.BATCH_READY,
    TrainEvents.OPTIMIZER_STEPPED,
    Events.ITERATION_COMPLETED,
]


@pytest.mark.parametrize("event", WITHIN, ids=lambda event: event.name)
def test_the_iteration_that_is_begun_is_trained_on(make_trainer, event):
    trainer, trained = make_trainer(), []
    trainer.add_event_handler(
        TrainEvents.OPTIMIZER_STEPPED, lambda: trained.append(1), phase=Phase.PREPARE
    )
    assert stop_at(trainer, event, 3) == [3]
    assert len(trained) == 3


@pytest.mark.parametrize("event", [TrainEvents.BATCH_READY, Events.ITERATION_COMPLETED])
def test_a_window_that_is_begun_is_closed(make_trainer, event):
    trainer = make_trainer()
    windows_of_two(trainer)
    assert stop_at(trainer, event, 3) == [4]
    assert trainer.state.optimizer_step == 2


@pytest.mark.parametrize("event", WITHIN, ids=lambda event: event.name)
def test_an_epoch_whose_batches_are_done_is_completed(make_trainer, event):
    assert stop_at(make_trainer(), event, 5) == ["epoch", 5]


def test_nothing_is_trained_after_a_stop_at_the_start(make_trainer):
    assert stop_at(make_trainer(), Events.STARTED, 0) == [0]
    assert stop_at(make_trainer(), Events.EPOCH_STARTED, 0) == [0]


def test_the_same_trainer_continues_after_a_stop_within_an_epoch(make_trainer):
    straight, stopped = make_trainer(), make_trainer()
    epochs = []
    stopped.add_event_handler(
        Events.EPOCH_COMPLETED, lambda t: epochs.append((t.state.epoch, t.state.iteration))
    )
    torch.manual_seed(5)
    straight.fit(ResumableLoader(), 3)
    torch.manual_seed(5)
    stop_at(stopped, Events.ITERATION_COMPLETED, 8)
    assert (stopped.state.epoch, stopped.state.iteration) == (2, 8)
    stopped.fit(ResumableLoader(), 3)
    assert epochs == [(1, 5), (2, 10), (3, 15)]
    assert torch.equal(weights(straight), weights(stopped))

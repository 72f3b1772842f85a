from __future__ import annotations

import pytest
import torch
from ignite.engine import Events

from engine import Trainer, TrainEvents, UsageError
from engine.losses import CrossEntropy
from handlers.accumulation import Accumulation
from tests.tiny_problem import FEATURES, TinyLoader


class PlainModel(torch.nn.Module):
    """No dropout and no norm over the batch: only the sum of the gradients can differ."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(FEATURES, 2)

    def forward(self, spectra, mask, tabular):
        return {"logits": self.head(spectra.mean(dim=1))}


def train(loader, steps, epochs=2):
    torch.manual_seed(0)
    model = PlainModel()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.5), CrossEntropy())
    if steps:
        Accumulation(steps).attach(trainer)
    seen = []

    @trainer.on(TrainEvents.GRADIENTS_READY)
    def look(trainer):
        seen.append([p.grad.clone() for p in trainer.model.parameters()])

    trainer.fit(loader, epochs)
    return trainer, seen


def assert_same(trainer, other):
    for mine, theirs in zip(trainer.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_two_micro_batches_give_the_step_of_one_large_batch():
    small, small_gradients = train(TinyLoader(samples=16, batch_size=4), steps=2)
    large, large_gradients = train(TinyLoader(samples=16, batch_size=8), steps=None)
    assert small.state.optimizer_step == large.state.optimizer_step == 4
    for mine, theirs in zip(small_gradients, large_gradients, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert_same(small, large)


def test_the_epochs_last_window_is_divided_by_its_true_size():
    # 5 micro-batches by 3: windows of 3 and 2, which are batches of 12 and 8 samples.
    small, small_gradients = train(TinyLoader(samples=20, batch_size=4), steps=3)
    large, large_gradients = train(TinyLoader(samples=20, batch_size=12), steps=None)
    assert small.state.optimizer_step == 4
    for mine, theirs in zip(small_gradients, large_gradients, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert_same(small, large)


def test_a_window_larger_than_the_epoch_is_the_whole_epoch():
    small, _ = train(TinyLoader(samples=20, batch_size=4), steps=100)
    large, _ = train(TinyLoader(samples=20, batch_size=20), steps=None)
    assert_same(small, large)


def test_windows_open_and_close_with_the_epoch(make_trainer, loader):
    trainer, windows = make_trainer(), []
    Accumulation(2).attach(trainer)
    trainer.add_event_handler(
        TrainEvents.BATCH_READY,
        lambda: windows.append((trainer.state.accumulation_size, trainer.state.sync_gradients)),
    )
    trainer.fit(loader, 2)
    epoch = [(2, False), (2, True), (2, False), (2, True), (1, True)]
    assert windows == epoch * 2


def test_nothing_leaks_into_the_next_epoch(make_trainer, loader):
    trainer = make_trainer()
    left: list[torch.Tensor] = []
    Accumulation(2).attach(trainer)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda: left.extend(p.grad for p in trainer.model.parameters() if p.grad is not None),
    )
    trainer.fit(loader, 2)
    assert left == []


def test_a_window_that_was_left_open_is_no_part_of_the_next_one(make_trainer):
    loader = TinyLoader(samples=16)
    trainer, first = make_trainer(), []
    Accumulation(2).attach(trainer)
    trainer.fit(loader, 1)
    # As after an epoch that was cut short: gradients lie there, and the window is open.
    for parameter in trainer.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    trainer.state.sync_gradients = False
    trainer.add_event_handler(
        TrainEvents.GRADIENTS_READY,
        lambda: first.append(max(float(p.grad.abs().max()) for p in trainer.model.parameters())),
    )
    trainer.fit(loader, 2)
    assert first[0] < 100


def test_a_run_resumed_between_accumulations_equals_the_uncut(make_trainer, loader):
    whole = make_trainer()
    Accumulation(2).attach(whole)
    states = {}

    @whole.on(Events.ITERATION_COMPLETED(once=7))  # the second epoch's second: a window closed
    def save(trainer):
        states.update({name: _copy(state) for name, state in trainer.capture().items()})

    torch.manual_seed(1)
    whole.fit(loader, 2)

    class FromThePosition(TinyLoader):
        """Continues within an epoch where the trainer says, as the real sampler does."""

        begin = 0

        @property
        def batch_sampler(self):
            return self

        def resume_at(self, epoch, position):
            self.begin = position

        def set_epoch(self, epoch):
            self.begin = 0

        def __iter__(self):
            return iter(self.batches[self.begin :])

    continued = make_trainer()
    Accumulation(2).attach(continued)
    continued.restore(states)
    continued.fit(FromThePosition(), 2)
    assert continued.state.optimizer_step == whole.state.optimizer_step
    assert_same(continued, whole)


def _copy(state):
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: _copy(value) for key, value in state.items()}
    return [_copy(value) for value in state] if isinstance(state, list) else state


def test_others_can_read_the_number_of_steps(make_trainer):
    trainer = make_trainer()
    assert trainer.state.accumulate_steps == 1
    Accumulation(3).attach(trainer)
    assert trainer.state.accumulate_steps == 3


def test_one_step_listens_to_nothing(make_trainer):
    trainer = make_trainer()
    Accumulation(1).attach(trainer)
    assert not trainer._event_handlers.get(Events.ITERATION_STARTED)


@pytest.mark.parametrize("steps", [0, -1, 1.5, "2", None, True])
def test_steps_that_are_no_count_are_refused(steps):
    with pytest.raises(UsageError, match=r"accumulation.steps: a whole number at least 1"):
        Accumulation(steps)

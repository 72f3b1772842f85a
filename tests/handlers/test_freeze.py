from __future__ import annotations

import io

import pytest
import torch
from ignite.engine import Events
from torch import nn

from engine import Evaluator, Phase, Trainer, TrainEvents, UsageError, build_optimizer
from engine.losses import CrossEntropy
from engine.metrics import EpochMetrics
from handlers.freeze import Freeze
from handlers.validation import Validation
from tests.engine.test_trainer import ResumableLoader, weights
from tests.tiny_problem import TinyModel

BODY = {"body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"}
HEAD = {"head.weight", "head.bias"}


def state(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def through_a_file(states):
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def moved_by_epoch(trainer, loader, epochs):
    """What moved in each epoch."""
    seen: list[set[str]] = []
    last: dict[str, torch.Tensor] = {}

    def look(trainer):
        now = state(trainer)
        if last:
            seen.append(moved(last, now))
        last.update(now)

    trainer.add_event_handler(Events.STARTED, look)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, look)
    trainer.fit(loader, epochs)
    return seen


@pytest.mark.parametrize("pattern", ["body", "body.*", "b?dy", "*body*", "bod[xy]"])
def test_a_frozen_part_does_not_move_and_gets_no_gradient(make_trainer, loader, pattern):
    trainer = make_trainer()
    with_gradient: set[str] = set()
    trainer.attach(Freeze([pattern]))
    before = state(trainer)

    def look(trainer):
        named = trainer.model.named_parameters()
        with_gradient.update(name for name, p in named if p.grad is not None)

    trainer.add_event_handler(TrainEvents.GRADIENTS_READY, look)
    trainer.fit(loader, 2)
    assert moved(before, state(trainer)) == HEAD  # neither weights nor a norm's statistics
    assert with_gradient == HEAD


def test_one_parameter_can_be_named_by_itself(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Freeze("body.1.bias"))
    before = state(trainer)
    trainer.fit(loader, 1)
    unmoved = before.keys() - moved(before, state(trainer))
    assert unmoved == {"body.1.bias"}  # the norm's weight trains, and so its statistics move


def test_weight_decay_leaves_a_frozen_part_alone(make_trainer, loader):
    trainer = make_trainer(weight_decay=10.0)
    trainer.attach(Freeze("body"))
    before = state(trainer)
    trainer.fit(loader, 1)
    assert moved(before, state(trainer)) == HEAD


def test_until_epoch_is_the_first_that_trains(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Freeze("body", until_epoch=3))
    first, second, third = moved_by_epoch(trainer, loader, 3)
    assert first == second == HEAD
    assert third > BODY | HEAD
    assert "body.1.running_mean" in third


def test_parts_are_unfrozen_each_at_its_epoch(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Freeze("body", until_epoch=4, unfreeze={"body.0": 2, "body.0.bias": 3}))
    epochs = moved_by_epoch(trainer, loader, 4)
    assert epochs[0] == HEAD
    # The earliest epoch counts where several match.
    assert epochs[1] == epochs[2] == HEAD | {"body.0.weight", "body.0.bias"}
    assert epochs[3] > BODY | HEAD


def test_what_only_an_unfreeze_pattern_names_is_frozen_up_to_then(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Freeze(unfreeze={"head.*": 2}))
    first, second = moved_by_epoch(trainer, loader, 2)
    assert not first & HEAD
    assert second > HEAD


@pytest.mark.parametrize(
    "optimizer",
    [
        {},
        {"fused": False},
        {"name": "sgd", "momentum": 0.9},
        {"name": "sgd", "momentum": 0.9, "fused": True},
    ],
)
def test_any_optimizer_takes_up_what_is_unfrozen(make_trainer, loader, optimizer):
    trainer = make_trainer(**optimizer)
    trainer.attach(Freeze("body", until_epoch=2))
    _, second = moved_by_epoch(trainer, loader, 2)
    # The norm takes the bias before it out again, so that its gradient is as good as zero.
    assert second > (BODY | HEAD) - {"body.0.bias"}


def test_a_frozen_norm_stays_in_eval_mode_after_validation(make_trainer, make_evaluator, loader):
    trainer, modes = make_trainer(), []
    trainer.attach(Freeze("body"))
    evaluator = make_evaluator(trainer)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=2), lambda: evaluator.evaluate(loader)
    )
    trainer.attach(Validation(evaluator, loader))
    trainer.add_event_handler(
        TrainEvents.FORWARD_COMPLETED,
        lambda t: modes.append((t.model.body[1].training, t.model.body[3].training)),
    )
    before = state(trainer)
    trainer.fit(loader, 2)
    assert set(modes) == {(False, True)}  # the dropout goes on
    assert moved(before, state(trainer)) == HEAD


class Normed(nn.Module):
    """A norm without parameters, and a weight that has two names."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6, affine=False)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, 2)

    def forward(self, spectra, mask, tabular):
        return {"logits": self.head(self.second(self.first(self.norm(spectra.mean(dim=1)))))}


def normed_trainer(*handlers):
    torch.manual_seed(0)
    model = Normed()
    trainer = Trainer(model, build_optimizer(model, lr=0.1), CrossEntropy())
    trainer.attach(*handlers)
    return trainer


def test_a_norm_without_parameters_is_named_by_itself(loader):
    trainer = normed_trainer(Freeze("norm", until_epoch=2))
    first, second = moved_by_epoch(trainer, loader, 2)
    assert "norm.running_mean" not in first
    assert "norm.running_mean" in second


@pytest.mark.parametrize("name", ["first.weight", "second.weight"])
def test_a_shared_parameter_is_frozen_by_any_of_its_names(loader, name):
    trainer = normed_trainer(Freeze(name))
    before = state(trainer)
    trainer.fit(loader, 1)
    assert not {"first.weight", "second.weight"} & moved(before, state(trainer))


def test_a_shared_parameter_trains_when_all_of_its_names_may(loader):
    trainer = normed_trainer(Freeze(unfreeze={"first.weight": 3, "second.weight": 2}))
    _, second, third = moved_by_epoch(trainer, loader, 3)
    assert "first.weight" not in second
    assert "first.weight" in third


def test_what_was_frozen_by_hand_stays_so(make_trainer, loader):
    trainer = make_trainer()
    trainer.model.head.bias.requires_grad_(False)
    trainer.attach(Freeze("body", until_epoch=2))
    assert all("head.bias" not in epoch for epoch in moved_by_epoch(trainer, loader, 2))


def build(make_trainer, seed=0):
    trainer = make_trainer(seed)
    trainer.attach(Freeze("body", unfreeze={"body.0": 2, "body.1": 3}))
    evaluator = Evaluator(trainer.model, trainer.loss, EpochMetrics())
    rows = []
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: rows.append(dict(t.state.notice)))
    return trainer, evaluator, rows


@pytest.mark.parametrize("cut_at", [3, 5, 8, 10, 12])
def test_a_resumed_run_has_the_same_parts_frozen_and_the_same_log(make_trainer, cut_at):
    straight, _, rows = build(make_trainer)
    torch.manual_seed(5)
    straight.fit(ResumableLoader(), 3)
    cut, _, cut_rows = build(make_trainer)
    states = {}

    def save_and_leave(trainer):
        states.update(through_a_file(trainer.capture()))
        trainer.terminate()

    within = Events.ITERATION_COMPLETED(once=cut_at)
    event = within if cut_at % 5 else Events.EPOCH_COMPLETED(once=cut_at // 5)
    cut.add_event_handler(event, save_and_leave, phase=Phase.SAVE)
    torch.manual_seed(5)
    cut.fit(ResumableLoader(), 3)
    resumed, _, resumed_rows = build(make_trainer, seed=9)
    resumed.restore(states)
    resumed.fit(ResumableLoader(), 3)
    assert torch.equal(weights(straight), weights(resumed))
    assert moved(state(straight), state(resumed)) == set()
    assert cut_rows + resumed_rows == rows


def test_an_epoch_open_in_its_validation_is_announced_once(make_trainer, loader):
    cut, _, cut_rows = build(make_trainer)
    cut.add_event_handler(Events.EPOCH_COMPLETED(once=2), cut.leave_epoch_open)
    cut.fit(loader, 3)
    resumed, _, rows = build(make_trainer)
    resumed.restore(through_a_file(cut.capture()))
    resumed.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda: None)
    resumed.fit(loader, 3)
    assert [row["epoch"] for row in cut_rows + rows] == [1, 2, 3]


def test_it_says_what_is_frozen_and_what_no_longer_is(make_trainer, loader):
    trainer, _, rows = build(make_trainer)
    trainer.fit(loader, 4)
    assert rows == [
        {"event": "frozen", "epoch": 1, "patterns": ["body", "body.0", "body.1"], "parameters": 4},
        {"event": "unfrozen", "epoch": 2, "patterns": ["body.0"], "parameters": 2},
        {"event": "unfrozen", "epoch": 3, "patterns": ["body.1"], "parameters": 2},
    ]


@pytest.mark.parametrize("settings", [{"patterns": ["haed"]}, {"unfreeze": {"haed": 3}}])
def test_an_unknown_name_is_refused_with_the_nearest(make_trainer, settings):
    with pytest.raises(UsageError, match=r"freeze: .*'haed'; did you mean 'head'\?") as refused:
        make_trainer().attach(Freeze(**settings))
    assert "\n" not in str(refused.value)


def test_a_part_without_parameters_is_no_name(make_trainer):
    with pytest.raises(UsageError, match=r"no module with parameters is called 'body.2'"):
        make_trainer().attach(Freeze("body.2"))


@pytest.mark.parametrize("settings", [{"patterns": "*"}, {"patterns": "*", "until_epoch": 2}])
def test_freezing_everything_is_refused(make_trainer, settings):
    with pytest.raises(UsageError, match="nothing is left to train"):
        make_trainer().attach(Freeze(**settings))


def test_a_parameter_that_the_optimizer_lacks_cannot_be_unfrozen():
    model = TinyModel()
    model.body.requires_grad_(False)
    trainer = Trainer(model, build_optimizer(model), CrossEntropy())
    trainer.attach(Freeze("body"))  # for good: nothing is promised
    with pytest.raises(UsageError, match=r"body.0.weight is to be trained from epoch 2 on, but"):
        trainer.attach(Freeze("body", until_epoch=2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "freeze.patterns: name at least one"),
        ({"patterns": ["head"], "until_epoch": 0}, "freeze.until_epoch: a whole number"),
        ({"unfreeze": {"head": 1.5}}, r"freeze.unfreeze.head: a whole number"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Freeze(**settings)

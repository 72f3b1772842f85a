from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from engine.lean_adamw import WHOLE_STEP, LeanAdamW

STEPS = 6
REGISTER = {
    "pre": register_optimizer_step_pre_hook,
    "post": register_optimizer_step_post_hook,
}


def make(cls, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return model, cls(groups, lr=0.01, **{"fused": True, **settings})


def give_gradients(model, step):
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = None
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)


def moved(cls, between=lambda step, model, optimizer: None, **settings):
    """The weights and the memory after some steps."""
    model, optimizer = make(cls, **settings)
    for step in range(STEPS):
        between(step, model, optimizer)
        give_gradients(model, step)
        optimizer.step()
    memory = [optimizer.state[p] for p in model.parameters() if p in optimizer.state]
    return [*model.parameters()], [value for each in memory for value in each.values()]


def assert_alike(*args, **settings):
    (mine, my_memory), (torchs, its_memory) = (
        moved(cls, *args, **settings) for cls in (LeanAdamW, AdamW)
    )
    assert all(map(torch.equal, mine, torchs))
    assert len(my_memory) == len(its_memory)
    assert all(map(torch.equal, my_memory, its_memory))


@pytest.fixture
def whole_steps(monkeypatch):
    """How often torch's own step is taken."""
    counted = []

    def count(optimizer):
        counted.append(1)
        WHOLE_STEP(optimizer)

    monkeypatch.setattr("engine.lean_adamw.WHOLE_STEP", count)
    return counted


def test_it_moves_as_torch_does_bit_for_bit():
    assert_alike()


def test_only_the_first_step_is_torchs_own(whole_steps):
    moved(LeanAdamW)
    assert len(whole_steps) == 1


def test_a_rate_and_a_decay_that_change_are_followed():
    def change(step, model, optimizer):
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = 0.01 / (step + 1), 0.1 * step

    assert_alike(change)


def test_parameters_that_are_frozen_and_released_are_followed(whole_steps):
    def change(step, model, optimizer):
        model[0].weight.requires_grad_(step not in (2, 3))

    assert_alike(change)
    assert 1 < len(whole_steps) < STEPS


def test_a_group_that_is_added_is_moved():
    def change(step, model, optimizer):
        if step == 3:
            model.append(nn.Linear(2, 2))
            nn.init.ones_(model[-1].weight)
            nn.init.ones_(model[-1].bias)
            optimizer.add_param_group({"params": list(model[-1].parameters())})

    assert_alike(change)


def test_a_memory_that_is_put_back_is_the_one_that_counts():
    saved = {}

    def change(step, model, optimizer):
        if step == 2:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            saved[type(optimizer)] = file
        if step == 4:
            saved[type(optimizer)].seek(0)
            optimizer.load_state_dict(torch.load(saved[type(optimizer)], weights_only=True))

    assert_alike(change)


def test_a_memory_that_is_emptied_begins_anew():
    def change(step, model, optimizer):
        if step == 3:
            optimizer.state.clear()

    assert_alike(change)


def test_a_step_with_an_overflow_is_left_out():
    def change(step, model, optimizer):
        optimizer.found_inf = torch.tensor(float(step == 3)) if step > 1 else None

    assert_alike(change)


@pytest.mark.parametrize("option", [{"amsgrad": True}, {"maximize": True}, {"fused": False}])
def test_unusual_options_are_torchs_own(option, whole_steps):
    assert_alike(**option)
    assert len(whole_steps) == STEPS


def test_its_state_is_torchs_and_the_other_way_round():
    def exchange(step, model, optimizer):
        if step == 3:
            other = LeanAdamW if type(optimizer) is AdamW else AdamW
            between = other(optimizer.param_groups, lr=0.01, fused=True)
            between.load_state_dict(optimizer.state_dict())
            optimizer.load_state_dict(between.state_dict())

    assert_alike(exchange)


def test_a_copy_moves_its_own_parameters():
    model, optimizer = make(LeanAdamW)
    give_gradients(model, 0)
    optimizer.step()
    model_too, optimizer_too = copy.deepcopy((model, optimizer))
    before = model[0].weight.clone()
    give_gradients(model_too, 1)
    optimizer_too.step()
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(model_too[0].weight, before)


def test_a_closure_is_asked_for_the_loss_with_gradients():
    model, optimizer = make(LeanAdamW)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(1, 4)).sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure) for _ in range(3)]
    assert losses[0].requires_grad
    assert losses[0] > losses[1] > losses[2]


def test_the_counts_of_the_steps_are_one_tensor_and_saved_as_torchs_are():
    model, optimizer = make(LeanAdamW)
    for step in range(3):
        give_gradients(model, step)
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    for state in (optimizer.state_dict(), torch.load(file, weights_only=True)):
        counts = [memory["step"] for memory in state["state"].values()]
        assert [count.shape for count in counts] == [()] * 4
        assert [float(count) for count in counts] == [3.0] * 4
        # Two groups of two.
        assert len({count.untyped_storage().data_ptr() for count in counts}) == 2


def test_a_step_enters_the_profilers_record_only_where_there_is_one(monkeypatch):
    model, optimizer = make(LeanAdamW)
    entered = []
    real = torch.autograd.profiler.record_function

    def record(name):
        entered.append(name)
        return real(name)

    monkeypatch.setattr(torch.autograd.profiler, "record_function", record)
    give_gradients(model, 0)
    optimizer.step()
    assert entered == []
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    assert entered == ["Optimizer.step#LeanAdamW.step"]
    assert entered[0] in {event.name for event in profile.events()}


@pytest.mark.parametrize("when", sorted(REGISTER))
def test_hooks_of_every_optimizer_are_called_too(when):
    model, optimizer = make(LeanAdamW)
    called = []
    handle = REGISTER[when](lambda *_: called.append(when))
    try:
        give_gradients(model, 0)
        optimizer.step()
    finally:
        handle.remove()
    optimizer.step()
    assert called == [when]


def test_hooks_are_called_once_a_step():
    model, optimizer = make(LeanAdamW)
    called = []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    for step in range(2):
        give_gradients(model, step)
        optimizer.step()
    assert called == ["before", "after"] * 2

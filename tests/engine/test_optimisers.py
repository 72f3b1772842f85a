from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.optimisers import (
    build_optimizer,
    fill_momentum,
    leaves_steps_out,
    parameter_groups,
    scale_learning_rate,
)


def test_biases_and_norms_are_not_decayed():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    decay, no_decay = parameter_groups(model, 0.2)
    assert [tuple(p.shape) for p in decay["params"]] == [(4, 3), (2, 4)]
    assert (decay["weight_decay"], no_decay["weight_decay"]) == (0.2, 0.0)
    assert len(no_decay["params"]) == 4


def test_frozen_parameters_are_left_out():
    model = nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    (group,) = parameter_groups(model, 0.1)
    assert group["params"] == [model.bias]


def test_adamw_is_fused_and_moves_the_weights():
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimizer = build_optimizer(model, "adamw", lr=0.1)
    assert optimizer.defaults["fused"]
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, model.weight)


def test_sgd_takes_its_own_parameters():
    optimizer = build_optimizer(nn.Linear(1, 1), "sgd", lr=0.5, momentum=0.9)
    assert optimizer.defaults["momentum"] == 0.9
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_scaled_rate_lasts_where_a_schedule_computes_from_the_full_one():
    optimizer = build_optimizer(nn.Linear(1, 1), "sgd", lr=0.4)
    optimizer.param_groups[0].update(lr=torch.tensor(0.1), initial_lr=0.4)
    scale_learning_rate(optimizer, 0.5)
    of_first, of_second = optimizer.param_groups
    assert float(of_first["lr"]) == pytest.approx(0.05)
    assert of_first["initial_lr"] == 0.2
    assert of_second["lr"] == 0.2
    assert "initial_lr" not in of_second


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_fused_optimizer_leaves_a_step_out_where_it_is_told_on_the_device(name):
    model = nn.Linear(3, 2)
    params = {"momentum": 0.9} if name == "sgd" else {}
    optimizer = build_optimizer(model, name, lr=0.1, fused=True, **params)
    assert leaves_steps_out(optimizer)
    fill_momentum(optimizer)
    before = [p.detach().clone() for p in model.parameters()]
    for bad in (1.0, 0.0):
        for p in model.parameters():
            p.grad = torch.full_like(p, float("nan") if bad else 1.0)
        optimizer.found_inf = torch.tensor(bad)  # type: ignore[attr-defined]
        optimizer.step()
        same = all(torch.equal(a, p) for a, p in zip(before, model.parameters(), strict=True))
        assert same == bool(bad)
        assert all(torch.isfinite(p).all() for p in model.parameters())
    steps = [float(memory.get("step", 1)) for memory in optimizer.state.values()]
    assert steps == [1.0, 1.0]


def test_an_optimizer_that_is_not_fused_cannot():
    assert not leaves_steps_out(build_optimizer(nn.Linear(1, 1), "adamw", fused=False))


def test_momentum_that_is_filled_leads_to_the_same_steps():
    results = []
    for fill in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = build_optimizer(model, "sgd", lr=0.1, fused=True, momentum=0.9, nesterov=True)
        if fill:
            fill_momentum(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
        results.append(model.weight.detach())
    assert torch.equal(*results)


def test_momentum_that_is_there_is_left_alone():
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, "sgd", lr=0.1, fused=True, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    fill_momentum(optimizer)
    assert torch.equal(optimizer.state[model.bias]["momentum_buffer"], torch.ones(2))

"""Processes that share a model's weights train as one does that has them all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from datasets.errors import UsageError
from engine.checkpointing import load_checkpoint
from engine.distributed.sharding import (
    full_state,
    is_sharded,
    joint_norm,
    repeated_blocks,
    shard,
    shares_of,
    to_local,
)
from models import MODELS
from tests.engine import sharding_work
from tests.shared_problem import build_model, largest_difference

SAME = 1e-6
STEP_IN_SINGLE = 1e-5


@pytest.fixture
def outcomes(two_processes):
    return two_processes[sharding_work.__name__]


def test_each_process_holds_a_part_of_every_parameter(outcomes):
    sizes = {name: p.numel() for name, p in build_model().named_parameters()}
    for name, size in sizes.items():
        held = [outcome["shares"][name] for outcome in outcomes]
        assert sum(held) == size
        assert min(held) > 0


@pytest.mark.parametrize("name", ["everything", "a_bad_step", "a_frozen_part"])
def test_training_is_that_of_one_process_with_joint_batches(name, outcomes):
    alone = getattr(sharding_work, name)(2)
    assert largest_difference(alone, outcomes[0][name]) < SAME
    assert alone["metrics"] == pytest.approx(outcomes[1][name]["metrics"], abs=SAME)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_shared(name, outcomes):
    alone = sharding_work.a_step_of(name)
    assert largest_difference(alone, outcomes[0]["models"][name]) < STEP_IN_SINGLE


def test_its_checkpoint_is_one_of_whole_tensors(outcomes, shared_folder):
    states = load_checkpoint(shared_folder / "shared-run" / "last.pt")["states"]
    assert largest_difference(states["model"], outcomes[0]["written"]["weights"]) == 0
    build_model().load_state_dict(states["model"])


def test_either_continues_what_the_other_began(outcomes, shared_folder):
    expected = sharding_work.continued(shared_folder / "alone.pt", joint=2)
    alone = sharding_work.continued(shared_folder / "shared.pt", joint=2)
    for found in (alone, outcomes[0]["from_alone"], outcomes[0]["own"]):
        assert largest_difference(expected, found) < SAME


def test_nan_in_one_processs_part_is_seen_by_all(outcomes):
    assert [outcome["broken"] for outcome in outcomes] == ["head.weight", "head.weight"]


def test_what_needs_whole_weights_is_refused_in_a_line(outcomes):
    for outcome in outcomes:
        swa, rollback, graphs = outcome["refused"]
        assert (
            "compile.mode graphs does not work with weights that several processes share" in graphs
        )
        assert "swa does not work with weights that several processes share" in swa
        assert "rollback does not work with weights that several processes share" in rollback


def test_a_process_that_trains_alone_has_nobody_to_share_with():
    with pytest.raises(UsageError, match="there is one"):
        shard(nn.Linear(1, 1))


def test_whole_tensors_stay_as_they_are():
    model = nn.Linear(2, 1)
    assert not is_sharded(model)
    state: dict[str, Any] = {"state": dict(model.state_dict()), "count": [1, (2.0, "three")]}
    again = shares_of(full_state(state), state)
    assert again["state"]["weight"] is state["state"]["weight"]
    tensors = [parameter.detach() for parameter in model.parameters()]
    assert to_local(tensors) is tensors


def test_the_joint_norm_is_that_of_all_numbers_in_a_line():
    tensors = [torch.randn(3, 2), torch.randn(4)]
    line = torch.cat([tensor.flatten() for tensor in tensors])
    assert joint_norm(tensors).item() == pytest.approx(line.norm().item())


def test_they_are_those_of_one_class_that_stand_in_one_list():
    blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    model = nn.Sequential(blocks, nn.Linear(2, 2))
    assert repeated_blocks(model) == list(blocks)


def test_a_model_without_lists_has_none():
    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []


def test_outer_blocks_stand_before_those_within_them():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))

    first, second = Outer(), Outer()
    found = repeated_blocks(nn.Sequential(nn.ModuleList([first, second])))
    assert found == [first, second, *first.inner, *second.inner]


def test_the_joint_norm_is_that_of_all_gradients():
    assert joint_norm([torch.tensor([3.0]), torch.tensor([4.0])]).item() == 5


def test_a_class_that_occurs_twice_is_repeated():
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()])
    assert repeated_blocks(nn.Sequential(layers)) == list(layers)[:2]

"""What differs from process to process stands beside the first one's states."""

from __future__ import annotations

import pytest
import torch

from engine.checkpointing import process_states
from engine.checkpointing.process_states import OTHERS, of_this_process, with_others
from engine.checkpointing.reproducibility import capture_rng, preserve_rng_state, restore_rng


def test_a_process_that_trains_alone_adds_nothing():
    states = {"trainer": {"rng": 1}}
    assert with_others(states, {}) is states


def test_the_first_process_continues_its_own_of_several():
    states = {"trainer": {"rng": "first"}, OTHERS: [{"rng": "second"}, {"rng": "third"}]}
    assert of_this_process(states) == ({"trainer": {"rng": "first"}}, 3)


@pytest.fixture
def seen_by(monkeypatch):
    """The states as a process of some rank continues them."""

    def see(rank, states):
        monkeypatch.setattr(process_states, "rank", lambda: rank)
        return of_this_process(states)

    return see


def test_another_process_continues_what_was_its_own(seen_by):
    own = {"rng": "second", "metrics": 1}
    states = {"trainer": {"rng": "first", "epoch": 2}, "metrics": 0, OTHERS: [own]}
    found, saved_by = seen_by(1, states)
    assert found == {"trainer": {"rng": "second", "epoch": 2}, "metrics": 1}
    assert saved_by == 2


def test_new_ranks_get_streams_derived_from_rank_0(seen_by):
    states = {"trainer": {"rng": capture_rng()}}
    before = torch.get_rng_state()
    drawn = []
    for rank in (1, 2, 1):
        with preserve_rng_state():
            restore_rng(seen_by(rank, states)[0]["trainer"]["rng"])
            drawn.append(torch.rand(()).item())
    assert drawn[0] == drawn[2] != drawn[1]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.rand(()).item() not in drawn

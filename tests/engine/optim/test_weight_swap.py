from __future__ import annotations

import pytest
import torch

import engine.optim.weight_swap as module
from engine.optim.weight_swap import swapped_weights
from tests.tiny_problem import TinyLoader, TinyModel


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TinyModel()


def everything(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(one, other):
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_values_are_exchanged_and_come_back(model):
    live, before = list(model.parameters()), everything(model)
    other = [torch.full_like(p, 7.0) for p in live]
    with swapped_weights(model, live, other):
        assert all(bool((p == 7.0).all()) for p in model.parameters())
        assert torch.equal(other[0], before["body.0.weight"])
    assert_equal(everything(model), before)
    assert all(bool((t == 7.0).all()) for t in other)


def test_buffers_that_moved_meanwhile_come_back(model):
    before, batch = everything(model), TinyLoader().batches[0]
    with swapped_weights(model, [], []):
        model(batch.spectra, batch.mask, batch.tabular)
        assert not torch.equal(model.body[1].running_mean, before["body.1.running_mean"])
    assert_equal(everything(model), before)


def test_an_exception_gives_the_live_weights_back(model):
    live, before = list(model.parameters()), everything(model)
    with (
        pytest.raises(KeyboardInterrupt),
        swapped_weights(model, live, [torch.zeros_like(p) for p in live]),
    ):
        raise KeyboardInterrupt
    assert_equal(everything(model), before)


def test_an_exchange_that_fails_half_way_is_undone(model, monkeypatch):
    live, before, exchange = list(model.parameters()), everything(model), module._exchange
    calls = []

    def fails_at_the_third(one, other):
        calls.append(one)
        if len(calls) == 3:
            raise MemoryError
        exchange(one, other)

    monkeypatch.setattr(module, "_exchange", fails_at_the_third)
    with (
        pytest.raises(MemoryError),
        swapped_weights(model, live, [torch.zeros_like(p) for p in live]),
    ):
        pytest.fail("the context must not open")
    assert_equal(everything(model), before)

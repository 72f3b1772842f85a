from __future__ import annotations

import pytest
import torch
from torch import nn

import engine.eval_mode as module
from engine.eval_mode import eval_mode, swapped_weights
from tests.tiny_problem import TinyLoader, TinyModel


@pytest.fixture
def model() -> nn.Sequential:
    """A model that is trained, but for its frozen second part."""
    return nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()).eval())


def modes(model):
    return [module.training for module in model.modules()]


def test_every_module_evaluates_and_is_then_as_it_was(model):
    before = modes(model)
    with eval_mode(model):
        assert not any(modes(model))
    assert modes(model) == before == [True, True, False, False]


def test_the_modes_are_back_after_a_failure(model):
    before = modes(model)
    with pytest.raises(RuntimeError), eval_mode(model):
        raise RuntimeError
    assert modes(model) == before


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return TinyModel()


def everything(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(one, other):
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_values_are_exchanged_and_come_back(tiny):
    live, before = list(tiny.parameters()), everything(tiny)
    other = [torch.full_like(p, 7.0) for p in live]
    with swapped_weights(tiny, live, other):
        assert all(bool((p == 7.0).all()) for p in tiny.parameters())
        assert torch.equal(other[0], before["body.0.weight"])
    assert_equal(everything(tiny), before)
    assert all(bool((t == 7.0).all()) for t in other)


def test_buffers_that_moved_meanwhile_come_back(tiny):
    before, batch = everything(tiny), TinyLoader().batches[0]
    with swapped_weights(tiny, [], []):
        tiny(batch.spectra, batch.mask, batch.tabular)
        assert not torch.equal(tiny.body[1].running_mean, before["body.1.running_mean"])
    assert_equal(everything(tiny), before)


def test_an_exception_gives_the_live_weights_back(tiny):
    live, before = list(tiny.parameters()), everything(tiny)
    with (
        pytest.raises(KeyboardInterrupt),
        swapped_weights(tiny, live, [torch.zeros_like(p) for p in live]),
    ):
        raise KeyboardInterrupt
    assert_equal(everything(tiny), before)


def test_an_exchange_that_fails_half_way_is_undone(tiny, monkeypatch):
    live, before, exchange = list(tiny.parameters()), everything(tiny), module._exchange
    calls = []

    def fails_at_the_third(one, other):
        calls.append(one)
        if len(calls) == 3:
            raise MemoryError
        exchange(one, other)

    monkeypatch.setattr(module, "_exchange", fails_at_the_third)
    with (
        pytest.raises(MemoryError),
        swapped_weights(tiny, live, [torch.zeros_like(p) for p in live]),
    ):
        pytest.fail("the context must not open")
    assert_equal(everything(tiny), before)


def test_each_module_gets_its_mode_back():
    model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with eval_mode(model):
        assert not model[0].training
    assert [module.training for module in model] == [True, False]


def test_swapped_weights_are_in_the_model():
    model = nn.Linear(1, 1, bias=False)
    before = model.weight.item()
    with swapped_weights(model, [model.weight], [torch.full((1, 1), 7.0)]):
        assert model.weight.item() == 7
    assert model.weight.item() == before

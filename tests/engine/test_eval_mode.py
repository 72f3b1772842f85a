from __future__ import annotations

import pytest
from torch import nn

from engine.eval_mode import eval_mode


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

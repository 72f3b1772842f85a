from __future__ import annotations

import pytest
from torch import nn

from datasets.errors import UsageError
from engine.optim.layer_decay import layer_scales
from experiments.config import find_named
from models import MODELS


def test_the_multimodal_transformer_learns_slower_toward_the_scans():
    model = find_named("tft", MODELS, "name")(
        tab_dim=3, spec_len=64, patch_size=16, d_model=16, num_layers=2
    )
    scales = layer_scales(model, 0.5)

    def share(start):
        found = {
            scales.get(name, 1.0) for name, _ in model.named_parameters() if name.startswith(start)
        }
        assert len(found) == 1, start
        return found.pop()

    assert share("spectra_encoder.blocks.1") == 0.5
    assert share("spectra_encoder.blocks.0") == 0.25
    assert share("spectra_encoder.patches") == share("spectra_encoder.positions") == 0.125
    assert share("spectra_encoder.norm") == share("tabular_encoder") == share("head") == 1.0


def test_a_stack_within_a_block_does_not_count_again():
    def inner():
        return nn.ModuleDict({"inner": nn.ModuleList(nn.Sequential(nn.Linear(1, 1)) for _ in "ab")})

    model = nn.ModuleDict({"outer": nn.ModuleList(inner() for _ in range(3))})
    scales = layer_scales(model, 0.1)
    assert scales["outer.0.inner.1.0.bias"] == pytest.approx(0.001)
    assert scales["outer.2.inner.0.0.bias"] == pytest.approx(0.1)


def test_each_branch_has_depths_of_its_own():
    def stack(n):
        return nn.ModuleDict(
            {"blocks": nn.ModuleList(nn.Sequential(nn.Linear(1, 1)) for _ in range(n))}
        )

    scales = layer_scales(nn.ModuleDict({"long": stack(4), "short": stack(2)}), 0.5)
    assert scales["long.blocks.0.0.bias"] == 0.0625
    assert scales["short.blocks.0.0.bias"] == 0.25


def test_a_list_of_bare_layers_is_no_stack():
    model = nn.ModuleDict({"parallel": nn.ModuleList(nn.Linear(1, 1) for _ in range(3))})
    with pytest.raises(UsageError, match=r"has no nn\.ModuleList of two or more blocks"):
        layer_scales(model, 0.5)


@pytest.mark.parametrize("decay", [0.0, -1.0, 1.5])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        layer_scales(nn.Linear(1, 1), decay)

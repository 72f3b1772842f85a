from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from datasets.errors import UsageError
from engine.optim.optimizers import (
    GroupSettings,
    build_optimizer,
    fill_momentum,
    layer_scales,
    leaves_steps_out,
    matches,
    parameter_groups,
    refuse_unmatched,
    scale_learning_rate,
)
from experiments.config import find_named
from models import MODELS, Members
from tests.models.small_batch import small_model


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("encoder", "encoder.weight", True),
        ("encoder", "encoder2.weight", False),
        ("encoder.w*", "encoder.weight", True),
        ("*.bias", "a.b.bias", True),
        ("blocks.[01]", "blocks.1.weight", True),
        ("blocks.[01]", "blocks.10.weight", False),
    ],
)
def test_a_pattern_means_a_name_or_what_is_in_it(pattern, name, meant):
    assert matches(pattern, name) == meant


def test_what_means_nothing_is_refused_and_modules_are_offered():
    model = nn.ModuleDict({"encoder": nn.Linear(1, 1)})
    names = ["encoder.weight", "encoder.bias"]
    refuse_unmatched(["encoder"], names, model, "freeze")
    with pytest.raises(UsageError, match=r"^freeze: .*'encodr'.*'encoder'"):
        refuse_unmatched(["encodr"], names, model, "freeze")


def test_layer_decay_of_tft_lowers_rates_toward_the_scans():
    model = find_named("tft", MODELS, "model")(
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


def test_a_scaled_rate_lasts_under_a_schedule():
    optimizer = build_optimizer(nn.Linear(1, 1), "sgd", lr=0.4)
    optimizer.param_groups[0].update(lr=torch.tensor(0.1), initial_lr=0.4)
    scale_learning_rate(optimizer, 0.5)
    of_first, of_second = optimizer.param_groups
    assert float(of_first["lr"]) == pytest.approx(0.05)
    assert of_first["initial_lr"] == 0.2
    assert of_second["lr"] == 0.2
    assert "initial_lr" not in of_second


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_fused_optimizer_leaves_out_a_step_by_found_inf(name):
    model = nn.Linear(3, 2)
    params: dict[str, Any] = {"momentum": 0.9} if name == "sgd" else {}
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


def two_blocks():
    blocks = [nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(2)]
    model = nn.ModuleDict({"embed": nn.Linear(2, 2), "blocks": nn.ModuleList(blocks)})
    model["head"] = nn.Linear(2, 1)
    return model


def rates(model, **settings):
    """Parameter name -> (rate, weight decay)."""
    groups = build_optimizer(model, "sgd", **settings).param_groups
    of = {p: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    return {name: of[p] for name, p in model.named_parameters()}


def test_each_layer_below_learns_at_a_lower_rate():
    found = rates(two_blocks(), lr=0.8, weight_decay=0.1, layer_decay=0.5)
    assert found["head.weight"] == (0.8, 0.1)
    assert found["blocks.1.0.weight"] == pytest.approx((0.4, 0.1))
    assert found["blocks.0.0.weight"] == pytest.approx((0.2, 0.1))
    assert found["blocks.0.1.weight"] == pytest.approx((0.2, 0.0))
    assert found["embed.weight"] == pytest.approx((0.1, 0.1))


def test_the_first_matching_group_of_settings_counts():
    groups = [
        GroupSettings("head", lr_scale=10.0),
        GroupSettings(["head", "*.bias"], lr_scale=2.0, weight_decay=0.3),
    ]
    found = rates(two_blocks(), lr=0.1, weight_decay=0.1, groups=groups)
    assert found["head.weight"] == pytest.approx((1.0, 0.1))
    assert found["head.bias"] == pytest.approx((1.0, 0.0))
    assert found["embed.bias"] == pytest.approx((0.2, 0.3))
    assert found["embed.weight"] == pytest.approx((0.1, 0.1))


def test_shares_by_name_and_by_depth_multiply():
    groups = [GroupSettings("embed", lr_scale=4.0)]
    found = rates(two_blocks(), lr=0.8, groups=groups, layer_decay=0.5)
    assert found["embed.weight"][0] == pytest.approx(0.4)


def test_groups_are_named_apart_and_the_full_rate_comes_first():
    groups = [GroupSettings("head", 0.1), GroupSettings("embed", 0.1, weight_decay=0.7)]
    listed = parameter_groups(two_blocks(), 0.2, 1.0, groups)
    names = [group["name"] for group in listed]
    assert len(set(names)) == len(names) == 5
    assert names[:2] == ["decay", "no_decay"]
    assert listed[0]["lr"] == 1.0


def test_a_pattern_without_a_match_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"optimizer\.groups: .*'haed'.*'head'"):
        build_optimizer(two_blocks(), groups=[GroupSettings("haed")])


def test_a_pattern_matches_all_that_is_in_a_module():
    assert matches("encoder", "encoder.blocks.0.weight")
    assert not matches("*.bias", "encoder.weight")


def test_layers_far_from_the_output_learn_slower():
    blocks = nn.ModuleList(nn.Sequential(nn.Linear(2, 2)) for _ in range(2))
    model = nn.ModuleDict({"embed": nn.Linear(2, 2), "blocks": blocks})
    biases = {n: s for n, s in layer_scales(model, 0.5).items() if n.endswith("bias")}
    assert biases == {"embed.bias": 0.125, "blocks.0.0.bias": 0.25, "blocks.1.0.bias": 0.5}


def test_an_optimizer_is_built_by_its_name():
    built = build_optimizer(nn.Linear(2, 1), "sgd", lr=0.1, momentum=0.9)
    assert type(built).__name__ == "SGD"


def test_members_have_the_layer_decay_of_one_each():
    def network():
        return small_model("spectra_only")

    alone = layer_scales(network(), 0.5)
    assert len(set(alone.values())) > 1
    together = layer_scales(Members([network(), network()]), 0.5)
    assert together == {f"{n}.{name}": s for n in (0, 1) for name, s in alone.items()}

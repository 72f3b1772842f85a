from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.explain.gates import Gates
from models import TFTMultimodal
from tests.engine.measured import make_loader, measure
from tests.models.small_batch import small_model


def gates_of(model, loader):
    gates = Gates()
    measure(model, loader, gates)
    return gates


def outputs_of(model, loader, *, covariates=True):
    model.eval()
    with torch.no_grad():
        parts = [
            model(b.spectra, b.mask, b.tabular if covariates else torch.zeros_like(b.tabular))
            for b in loader
        ]
    return {
        name: torch.cat([part[name] for part in parts]) for name in ("spec_embedding", "gated_spec")
    }


def test_movement_is_what_the_covariates_change_of_the_gated_vector():
    model, loader = small_model("tft"), make_loader()
    gates = gates_of(model, loader)
    own, without = outputs_of(model, loader), outputs_of(model, loader, covariates=False)
    expected = (own["gated_spec"] - without["gated_spec"]).norm(dim=1)
    torch.testing.assert_close(gates.movement, expected / without["gated_spec"].norm(dim=1))
    assert (gates.movement > 0).all()


def test_change_is_from_before_the_gate_to_behind_it():
    model, loader = small_model("tft"), make_loader()
    gates = gates_of(model, loader)
    own = outputs_of(model, loader)
    expected = (own["gated_spec"] - own["spec_embedding"]).norm(dim=1)
    torch.testing.assert_close(gates.change, expected / own["spec_embedding"].norm(dim=1))


def test_covariates_that_the_gate_ignores_move_nothing_though_the_norm_does():
    model = small_model("tft")
    assert isinstance(model, TFTMultimodal)
    width = model.gating.value.in_features
    with torch.no_grad():
        for layer in (model.gating.gates, model.gating.merge):
            layer.weight[:, width:] = 0
    gates = gates_of(model, make_loader())
    assert gates.movement.max() == pytest.approx(0, abs=1e-6)
    assert gates.change.min() > 0.1


def test_a_model_without_a_gate_has_no_movement():
    gates = gates_of(small_model("late_fusion"), make_loader())
    assert gates.movement is None
    assert gates.change is None


def test_a_model_without_a_gate_is_called_once_a_batch():
    class Counting(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.calls = inner, 0

        def forward(self, spectra, mask, tabular):
            self.calls += 1
            return self.inner(spectra, mask, tabular)

    without, gated = Counting(small_model("mean_linear")), Counting(small_model("tft"))
    for model in (without, gated):
        measure(model, make_loader(), Gates())
    assert (without.calls, gated.calls) == (2, 4)

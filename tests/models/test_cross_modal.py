"""Attention in both directions, and the merged gates."""

from __future__ import annotations

import torch

from models.cross_modal import CrossModalAttention, EnhancedGating


def test_each_side_looks_at_the_other() -> None:
    torch.manual_seed(0)
    cross = CrossModalAttention(width=8, num_heads=2).eval()
    scans, covariates = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    seen_scans, seen_covariates, attention = cross(scans, covariates, mask, return_attention=True)
    assert seen_scans.shape == scans.shape
    assert seen_covariates.shape == covariates.shape
    assert seen_scans[~mask].eq(0).all()
    assert attention["spectra_to_tabular"].shape == (2, 2, 3, 5)
    assert attention["tabular_to_spectra"].shape == (2, 2, 5, 3)

    other_covariates = covariates.clone()
    other_covariates[:, 4] += 1
    assert not torch.allclose(cross(scans, other_covariates, mask)[0], seen_scans)
    other_scans = scans.clone()
    other_scans[:, 2] += 1
    moved = (cross(other_scans, covariates, mask)[1] - seen_covariates).abs().amax((1, 2))
    assert moved[0] > 1e-4  # there scan 2 is real
    assert moved[1] < 1e-6  # there it is padding


def test_unknown_covariates_are_not_looked_at() -> None:
    torch.manual_seed(0)
    cross = CrossModalAttention(width=8, num_heads=2).eval()
    scans, covariates = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    known = torch.tensor([[True] * 5, [True, True, False, True, False]])
    seen_scans, seen_covariates, attention = cross(
        scans, covariates, None, return_attention=True, covariate_mask=known
    )
    assert seen_covariates[~known].eq(0).all()
    assert attention["tabular_to_spectra"].sum(-1).eq(0).any(1).equal(~known)
    assert (attention["spectra_to_tabular"] * ~known[:, None, None]).eq(0).all()
    other = covariates.clone()
    other[:, 4] += 1
    moved = (cross(scans, other, None, covariate_mask=known)[0] - seen_scans).abs().amax((1, 2))
    assert moved[0] > 1e-4  # there covariate 4 is known
    assert moved[1] < 1e-6  # there it is not


def test_attention_is_not_returned_unasked() -> None:
    cross = CrossModalAttention(width=8, num_heads=2)
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert cross(torch.randn(2, 3, 8), torch.randn(2, 5, 8), mask)[2] == {}


def test_the_merged_gate_lies_between_closed_and_open_and_hears_both_sides() -> None:
    torch.manual_seed(0)
    gating = EnhancedGating(spec_dim=8, tab_dim=4).eval()
    spec, tab = torch.randn(3, 8), torch.randn(3, 4)
    gated, gate = gating(spec, tab)
    assert gated.shape == gate.shape == (3, 8)
    assert ((gate > 0) & (gate < 1)).all()
    assert not torch.allclose(gating(spec, tab + 1)[1], gate)
    assert not torch.allclose(gating(spec + 1, tab)[1], gate)


def test_a_closed_gate_leaves_the_residual() -> None:
    gating = EnhancedGating(spec_dim=8, tab_dim=4).eval()
    with torch.no_grad():
        gating.gates.bias.fill_(-100.0)
    spec = torch.randn(3, 8)
    gated, _ = gating(spec, torch.randn(3, 4))
    torch.testing.assert_close(gated, gating.norm(spec))


def test_the_gates_are_merged_by_their_shares() -> None:
    torch.manual_seed(0)
    gating = EnhancedGating(spec_dim=8, tab_dim=4, num_gates=3).eval()
    with torch.no_grad():
        gating.merge.weight.zero_()
        gating.merge.bias.copy_(torch.tensor([-100.0, 100.0, -100.0]))
    spec, tab = torch.randn(3, 8), torch.randn(3, 4)
    second = gating.gates(torch.cat([spec, tab], dim=-1)).sigmoid()[:, 8:16]
    torch.testing.assert_close(gating(spec, tab)[1], second)

"""Attention in both directions, and the merged gates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.cross_modal import (
    VECTOR_GROUPS,
    CrossModalAttention,
    EnhancedCrossAttentionFusion,
    EnhancedGating,
    ModalityTokens,
)


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


def test_the_merged_gate_is_in_0_to_1_and_uses_both_modalities() -> None:
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


B, S, D, SPEC, TAB, WIDTH, HEADS = 4, 3, 5, 12, 6, 16, 4


def build(**changes: Any) -> EnhancedCrossAttentionFusion:
    torch.manual_seed(0)
    settings = {"hid_dim": WIDTH, "num_heads": HEADS, **changes}
    return EnhancedCrossAttentionFusion(SPEC, TAB, **settings)


def tokens() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    scans = torch.randn(B, S, SPEC, generator=generator)
    mask = torch.arange(S) < torch.tensor([3, 1, 2, 3])[:, None]
    return scans, torch.randn(B, D, TAB, generator=generator), mask


def shapes(attention: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weights.shape) for name, weights in attention.items()}


def test_tokens_give_a_covariate_by_scan_matrix_per_head() -> None:
    fused, attention = build()(*tokens())
    assert fused.shape == (B, WIDTH)
    assert shapes(attention) == {
        "spectra_pooling": (B, S),
        "tabular_pooling": (B, D),
        "fusion_gate": (B, WIDTH),
        "spectra_to_tabular": (B, HEADS, S, D),
        "tabular_to_spectra": (B, HEADS, D, S),
    }
    mask = tokens()[2]
    assert (attention["tabular_to_spectra"] * ~mask[:, None, None]).eq(0).all()
    assert (attention["spectra_to_tabular"] * ~mask[:, None, :, None]).eq(0).all()
    torch.testing.assert_close(attention["tabular_to_spectra"].sum(-1), torch.ones(B, HEADS, D))
    heads = attention["tabular_to_spectra"][0].flatten(1)
    assert torch.cdist(heads, heads).fill_diagonal_(1).min() > 1e-4  # each head looks elsewhere


def test_single_vectors_are_looked_at_in_groups_of_features() -> None:
    fused, attention = build()(torch.randn(B, SPEC), torch.randn(B, TAB))
    assert fused.shape == (B, WIDTH)
    assert attention["spectra_to_tabular"].shape == (B, HEADS, VECTOR_GROUPS, TAB)
    assert attention["tabular_to_spectra"].shape == (B, HEADS, TAB, VECTOR_GROUPS)


def test_a_vector_beside_tokens_is_taken_too() -> None:
    scans, _, mask = tokens()
    fused, attention = build()(scans, torch.randn(B, TAB), mask)
    assert fused.shape == (B, WIDTH)
    assert attention["tabular_to_spectra"].shape == (B, HEADS, TAB, S)


@pytest.mark.parametrize("features", [1, 3, 8, 12, 13])
def test_the_groups_of_a_vector_share_its_features_out(features: int) -> None:
    torch.manual_seed(0)
    split = ModalityTokens(features, WIDTH)
    assert split.groups.sum(0).eq(1).all()  # each feature is in one group
    sizes = split.groups.sum(1)
    assert len(sizes) == min(features, VECTOR_GROUPS)
    assert sizes.max() - sizes.min() <= 1
    vectors = torch.randn(2, features)
    bias = split.project.bias
    whole = split.project(vectors) - bias
    torch.testing.assert_close((split(vectors) - bias).sum(1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("as_tokens", [True, False])
def test_gradients_reach_every_parameter(as_tokens: bool) -> None:
    scans, covariates, mask = tokens()
    inputs = (scans, covariates, mask) if as_tokens else (scans[:, 0], covariates[:, 0])
    fusion = build(dropout=0.0)
    (fusion(*inputs)[0] * torch.randn(WIDTH)).sum().backward()
    without = [n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_the_weights_are_the_same_whether_asked_for_or_not() -> None:
    fusion = build().eval()
    read, attention = fusion(*tokens())
    fast, few = fusion(*tokens(), return_attention=False)
    torch.testing.assert_close(fast, read, atol=1e-5, rtol=0)
    assert set(attention) - set(few) == {"spectra_to_tabular", "tabular_to_spectra"}


def test_what_is_masked_does_not_matter_on_either_side() -> None:
    fusion = build().eval()
    scans, covariates, mask = tokens()
    known = torch.arange(D) < torch.tensor([5, 2, 4, 1])[:, None]
    expected, attention = fusion(scans, covariates, mask, known)
    broken = (
        scans.masked_fill(~mask[..., None], float("nan")),
        covariates.masked_fill(~known[..., None], float("inf")),
    )
    torch.testing.assert_close(fusion(*broken, mask, known)[0], expected)
    assert (attention["tabular_pooling"] * ~known).eq(0).all()
    assert not torch.allclose(fusion(scans, covariates, mask)[0], expected, atol=1e-4)


def test_the_gate_chooses_between_the_sides() -> None:
    fusion = build().eval()
    nn.init.zeros_(fusion.gate.weight)
    scans, covariates, mask = tokens()
    with torch.no_grad():
        fusion.gate.bias.fill_(100.0)
    _, attention = fusion(scans, covariates, mask)
    assert attention["fusion_gate"].eq(1).all()
    seen, _, _ = fusion.cross_modal(fusion.spec_tokens(scans), fusion.tab_tokens(covariates), mask)
    pooled, _ = fusion.spec_pooling(seen, mask)
    torch.testing.assert_close(fusion(scans, covariates, mask)[0], fusion.norm(pooled))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            (torch.zeros(2, 11), torch.zeros(2, TAB)),
            r"spectra has shape \[2, 11\]; expected \[B, 12\] or \[B, tokens, 12\]",
        ),
        (
            (torch.zeros(2, SPEC), torch.zeros(TAB)),
            r"tabular has shape \[6\]; expected \[B, 6\] or \[B, tokens, 6\]",
        ),
        (
            (torch.zeros(2, 3, SPEC), torch.zeros(2, TAB), torch.ones(2, 4, dtype=torch.bool)),
            r"the mask of spectra is bool \[2, 4\]; expected bool \[2, 3\]",
        ),
        (
            (torch.zeros(2, 3, SPEC), torch.zeros(2, TAB), torch.ones(2, 3)),
            r"the mask of spectra is float32 \[2, 3\]; expected bool \[2, 3\]",
        ),
        (
            (torch.zeros(2, SPEC), torch.zeros(2, TAB), torch.ones(2, 1, dtype=torch.bool)),
            r"the mask of spectra is bool \[2, 1\]; expected no mask for one vector a sample",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(
    inputs: tuple[Tensor, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        build()(*inputs)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads=3 does not divide hid_dim=16"):
        build(num_heads=3)

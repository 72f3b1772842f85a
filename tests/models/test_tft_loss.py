"""The terms of the loss, each against a hand-made figure."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.tft_loss import TFTLoss, cross_entropy, info_nce


def outputs(size: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    names = {
        "logits": 2,
        "aux_logits_spec": 2,
        "aux_logits_tab": 2,
        "spec_projection": 8,
        "tab_projection": 8,
    }
    return {name: torch.randn(size, width, generator=generator) for name, width in names.items()}


def test_info_nce_equals_the_hand_computed_figure() -> None:
    first = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    # Cosines: [[1, 0.6], [0, 0.8]], divided by the temperature of one half.
    rows = math.log(1 + math.exp(1.2 - 2.0)) + math.log(1 + math.exp(0.0 - 1.6))
    columns = math.log(1 + math.exp(0.0 - 2.0)) + math.log(1 + math.exp(1.2 - 1.6))
    expected = (rows / 2 + columns / 2) / 2
    assert info_nce(first, second, temperature=0.5).item() == pytest.approx(expected, abs=1e-6)


def test_info_nce_falls_when_partners_agree() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(6, 16)
    assert info_nce(vectors, vectors, 0.1) < 0.1 < info_nce(vectors, vectors.roll(1, 0), 0.1)


def test_info_nce_of_one_sample_is_zero() -> None:
    assert info_nce(torch.randn(1, 4), torch.randn(1, 4), 0.1) == 0


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    loss = TFTLoss(aux_spec_weight=0.5, aux_tab_weight=0.25, contrastive_weight=2.0)
    terms = loss(outputs(), torch.tensor([0, 1, 1, 0]))
    expected = (
        terms["main_loss"]
        + 0.5 * terms["aux_spec_loss"]
        + 0.25 * terms["aux_tab_loss"]
        + 2.0 * terms["contrastive_loss"]
    )
    assert list(terms) == [
        "total_loss",
        "main_loss",
        "aux_spec_loss",
        "aux_tab_loss",
        "contrastive_loss",
    ]
    torch.testing.assert_close(terms["total_loss"], expected)
    assert all(term > 0 for term in terms.values())


def test_main_and_auxiliary_terms_are_cross_entropies() -> None:
    target = torch.tensor([0, 1, 1, 0])
    out = outputs()
    terms = TFTLoss()(out, target)
    for key, term in (
        ("logits", "main_loss"),
        ("aux_logits_spec", "aux_spec_loss"),
        ("aux_logits_tab", "aux_tab_loss"),
    ):
        expected = -out[key].log_softmax(1)[torch.arange(4), target].mean()
        torch.testing.assert_close(terms[term], expected)


def test_terms_that_a_model_does_not_give_are_zero() -> None:
    terms = TFTLoss()({"logits": torch.zeros(4, 2)}, torch.tensor([0, 1, 1, 0]))
    assert terms["total_loss"] == terms["main_loss"]
    assert terms["aux_spec_loss"] == terms["aux_tab_loss"] == terms["contrastive_loss"] == 0


def test_an_output_that_is_none_is_one_that_a_model_does_not_give() -> None:
    given = {"logits": torch.randn(4, 2)}
    names = ("aux_logits_spec", "aux_logits_tab", "spec_projection", "tab_projection")
    target = torch.tensor([0, 1, 1, 0])
    with_none = TFTLoss()({**given, **dict.fromkeys(names)}, target)  # type: ignore[arg-type]
    assert with_none == TFTLoss()(given, target)


def test_class_weights_weigh_samples() -> None:
    out, target = {"logits": torch.tensor([[2.0, 0.0], [2.0, 0.0]])}, torch.tensor([0, 1])
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    plain = TFTLoss()(out, target)["main_loss"]
    weighted = TFTLoss(class_weights=[1.0, 3.0])(out, target)["main_loss"]
    assert plain.item() == pytest.approx((right + wrong) / 2)
    assert weighted.item() == pytest.approx((right + 3 * wrong) / 4)


def test_label_smoothing_spreads_the_target() -> None:
    out, target = {"logits": torch.tensor([[2.0, 0.0]])}, torch.tensor([0])
    smoothed = TFTLoss(label_smoothing=0.2)(out, target)["main_loss"]
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert smoothed.item() == pytest.approx(0.9 * right + 0.1 * wrong)


def test_class_probabilities_serve_as_targets() -> None:
    hard = torch.tensor([0, 1, 1, 0])
    soft = torch.eye(2)[hard]
    torch.testing.assert_close(TFTLoss()(outputs(), soft), TFTLoss()(outputs(), hard))


@pytest.mark.parametrize(("head", "other_head"), [("spec", "tab"), ("tab", "spec")])
def test_auxiliary_heads_may_have_targets_of_their_own(head: str, other_head: str) -> None:
    target, other = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 0, 0, 1])
    plain, swapped = TFTLoss()(outputs(), target), TFTLoss()(outputs(), other)
    mixed = TFTLoss()(outputs(), target, aux={head: other})
    assert mixed[f"aux_{head}_loss"] == swapped[f"aux_{head}_loss"] != plain[f"aux_{head}_loss"]
    assert mixed[f"aux_{other_head}_loss"] == plain[f"aux_{other_head}_loss"]
    assert mixed["main_loss"] == plain["main_loss"]


def test_half_precision_outputs_are_weighed_in_full_precision() -> None:
    low = {name: tensor.bfloat16() for name, tensor in outputs().items()}
    terms = TFTLoss(class_weights=[1.0, 2.0])(low, torch.tensor([0, 1, 1, 0]))
    assert all(term.dtype == torch.float32 for term in terms.values())


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        TFTLoss(temperature=0)


def test_a_single_logit_is_refused() -> None:
    with pytest.raises(ValueError, match="TFTLoss needs logits of at least two classes, got one"):
        TFTLoss()({"logits": torch.zeros(4, 1)}, torch.zeros(4, 1))


def test_similarities_are_single_precision_also_under_autocast():
    torch.manual_seed(0)
    first, second = torch.randn(16, 8), torch.randn(16, 8)
    exact = info_nce(first, second, temperature=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(first, second, temperature=0.05), exact)


def test_class_weights_divide_the_mean():
    logits, targets = torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    weighted = cross_entropy(logits, targets, torch.tensor([1.0, 3.0]))
    assert weighted.item() == pytest.approx(0.4082, abs=1e-4)


def test_missing_terms_are_zero():
    losses = TFTLoss()({"logits": torch.zeros(4, 2)}, torch.tensor([0, 1, 1, 0]))
    assert losses["total_loss"].item() == pytest.approx(0.6931, abs=1e-4)

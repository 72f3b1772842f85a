from __future__ import annotations

from typing import Any

import pytest
import torch

from datasets.errors import UsageError
from engine.losses.contrastive import ModalityContrastive, SupervisedContrastive
from engine.losses.per_sample import CrossEntropy, FocalLoss, OutputNorm
from engine.losses.weighted import Term, WeightedLoss
from models.tft_loss import TFTLoss

torch.manual_seed(0)
TARGETS = torch.arange(8) % 2
WORD: Any = "1"
OUTPUTS = {
    "logits": torch.randn(8, 2),
    "aux_logits_spec": torch.randn(8, 2),
    "aux_logits_tab": torch.randn(8, 2),
    "embedding": torch.randn(8, 4),
    "spec_embedding": torch.randn(8, 3),
    "spec_projection": torch.randn(8, 5),
    "tab_projection": torch.randn(8, 5),
}


def test_terms_are_returned_unweighted_and_summed_weighted():
    loss = WeightedLoss(
        {
            "main": FocalLoss(),
            "aux_spec": Term(CrossEntropy(), 0.3, on="aux_logits_spec"),
            "contrast": Term(SupervisedContrastive(), 0.02, on="spec_embedding"),
            "size": Term(OutputNorm(), 0.001),
        }
    )
    terms = loss(OUTPUTS, TARGETS)
    assert list(terms) == ["total_loss", "main", "aux_spec", "contrast", "size"]
    of_head = CrossEntropy()({"logits": OUTPUTS["aux_logits_spec"]}, TARGETS)["total_loss"]
    assert torch.equal(terms["aux_spec"], of_head)
    of_spectra = SupervisedContrastive()({"embedding": OUTPUTS["spec_embedding"]}, TARGETS)
    assert torch.equal(terms["contrast"], of_spectra["total_loss"])
    expected = terms["main"] + 0.3 * of_head + 0.02 * terms["contrast"] + 0.001 * terms["size"]
    torch.testing.assert_close(terms["total_loss"], expected)


def test_the_loss_of_tft_can_be_composed_of_terms():
    loss = WeightedLoss(
        {
            "main_loss": CrossEntropy(),
            "aux_spec_loss": Term(CrossEntropy(), 0.3, "aux_logits_spec"),
            "aux_tab_loss": Term(CrossEntropy(), 0.3, "aux_logits_tab"),
            "contrastive_loss": Term(ModalityContrastive(0.1), 0.02),
        }
    )
    ours, theirs = loss(OUTPUTS, TARGETS), TFTLoss()(OUTPUTS, TARGETS)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)


def test_a_term_of_weight_zero_is_logged_but_has_no_part():
    class Broken(CrossEntropy):
        def forward(self, outputs, targets, aux=None):
            return {"total_loss": torch.tensor(float("inf"))}

    terms = WeightedLoss({"main": CrossEntropy(), "off": Term(Broken(), 0)})(OUTPUTS, TARGETS)
    assert terms["off"].item() == float("inf")
    assert torch.equal(terms["total_loss"], terms["main"])


def test_an_optional_term_without_its_output_is_left_out():
    loss = WeightedLoss(
        {
            "main": CrossEntropy(),
            "aux": Term(CrossEntropy(), 0.3, on="aux_logits_spec", optional=True),
            "pair": Term(ModalityContrastive(), optional=True),
            "norm": Term(OutputNorm(), optional=True),
        }
    )
    unlike = {"spec_embedding": torch.zeros(8, 3), "tab_embedding": torch.zeros(8, 4)}
    assert list(loss({"logits": OUTPUTS["logits"], **unlike}, TARGETS)) == ["total_loss", "main"]
    assert len(loss(OUTPUTS, TARGETS)) == 5


def test_a_missing_output_is_named_with_the_nearest():
    loss = WeightedLoss({"aux": Term(CrossEntropy(), on="aux_logits_spek")})
    with pytest.raises(UsageError, match=r"no 'aux_logits_spek' .*did you mean 'aux_logits_spec'"):
        loss(OUTPUTS, TARGETS)
    only = WeightedLoss({"aux": Term(CrossEntropy(), on="gone", optional=True)})
    with pytest.raises(UsageError, match="returns nothing that a term"):
        only(OUTPUTS, TARGETS)


def test_class_weights_of_terms_move_with_the_loss():
    loss = WeightedLoss({"main": CrossEntropy(class_weights=[1.0, 2.0])})
    assert loss.to("meta").terms["main"].loss.class_weights.device.type == "meta"


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "at least one name"),
        (["focal"], "at least one name"),
        (
            {"main": Term(CrossEntropy(), -1)},
            "'main': a number at least 0 was expected, not -1",
        ),
        ({"main": Term(CrossEntropy(), WORD)}, "weight of 'main': a number"),
        ({"main": Term(CrossEntropy(), float("nan"))}, "weight of 'main': a number"),
        ({"main": Term(CrossEntropy(), 0)}, "weights of all terms are 0"),
        ({"accuracy": CrossEntropy()}, "cannot be called 'accuracy', .*'accuracy_term' could"),
        ({"total_loss": CrossEntropy()}, "cannot be called 'total_loss'"),
        ({"effective_scans": CrossEntropy()}, "cannot be called 'effective_scans'"),
        ({"a/b": CrossEntropy()}, "'a/b' cannot be a term's name"),
        ({"pair": Term(ModalityContrastive(), on="logits")}, "'pair' compares two outputs"),
    ],
)
def test_terms_that_cannot_work_are_refused(terms, message):
    with pytest.raises(UsageError, match=message):
        WeightedLoss(terms)

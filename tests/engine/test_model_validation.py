from __future__ import annotations

from pkgutil import resolve_name

import pytest
import torch
from torch import nn

from datasets.errors import UsageError
from engine.losses import LOSSES, CrossEntropy
from engine.model_validation import validate_model
from tests.tiny_problem import TinyLoader, TinyModel


class Returns(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, spectra, mask, tabular):
        return self.outputs


@pytest.fixture
def batch():
    return TinyLoader().batches[0]


def test_a_good_model_passes_and_the_random_stream_is_untouched(batch):
    torch.manual_seed(3)
    expected = torch.rand(2)
    model = TinyModel()
    torch.manual_seed(3)
    assert validate_model(model, CrossEntropy(), batch, 2) == ["total_loss"]
    assert torch.equal(torch.rand(2), expected)
    assert model.training


def test_a_part_that_is_in_evaluation_mode_stays_so(batch):
    model = TinyModel()
    first = next(model.children()).eval()
    validate_model(model, CrossEntropy(), batch, 2)
    assert not first.training
    assert model.training


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(4, 2), "must return a dict with 'logits', not Tensor"),
        ({"logit": torch.zeros(4, 2)}, "did you mean 'logit'"),
        ({"logits": torch.zeros(4, 3)}, r"\[4, 3\], expected \[B, C\] = \[4, 2\]"),
    ],
)
def test_a_broken_model_is_named_with_what_was_expected(batch, outputs, message):
    with pytest.raises(UsageError, match=message):
        validate_model(Returns(outputs), CrossEntropy(), batch, 2)


def logits_and(**others):
    return {"logits": torch.zeros(4, 2), **others}


@pytest.mark.parametrize(
    "others",
    [
        {"embedding": None, "spec_embedding": None, "gated_spec": None, "aux_logits_tab": None},
        {"embedding": torch.zeros(4, 7), "tab_embedding": torch.zeros(4, 1)},
        {"anything": "of the model's own", "more": [1, 2]},
    ],
)
def test_none_and_names_of_its_own_are_accepted(batch, others):
    assert validate_model(Returns(logits_and(**others)), CrossEntropy(), batch, 2)


class Attends(nn.Module):
    """Gives weights that it makes of the mask."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, spectra, mask, tabular):
        return {"logits": torch.zeros(len(mask), 2), "attention_weights": self.make(mask.float())}


@pytest.mark.parametrize(
    "make",
    [
        lambda mask: mask,
        lambda mask: [mask, None, mask[:, None]],
        lambda mask: (mask,),
        lambda mask: {"pool": mask, "cross": None},
        lambda mask: None,
        lambda mask: {},
    ],
    ids=["tensor", "list", "tuple", "dict", "none", "empty"],
)
def test_attention_weights_of_every_documented_form_pass(batch, make):
    assert validate_model(Attends(make), CrossEntropy(), batch, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda mask: mask.numpy(), "attention_weights as ndarray, expected a dict of tensors"),
        (lambda mask: {"pool": 0.5}, r"attention_weights\['pool'\] as float"),
        (lambda mask: [mask, [mask]], r"attention_weights\[1\] as list"),
        (lambda mask: mask.mean(0), r"attention_weights of shape \[\d\], .*; B = 4"),
        (lambda mask: {"a": mask[:, 0]}, r"attention_weights\['a'\] of shape \[4\]"),
        (lambda mask: {1: mask}, "names attention_weights by 1, expected text"),
        (lambda mask: {"a": mask.T @ mask}, r"of shape \[\d, \d\], expected .* B = 4"),
    ],
)
def test_other_attention_weights_are_refused_in_a_line(batch, make, message):
    with pytest.raises(UsageError, match=message) as error:
        validate_model(Attends(make), CrossEntropy(), batch, 2)
    assert "\n" not in str(error.value)


def test_attention_that_takes_no_further_scan_is_refused(batch):
    scans = batch.mask.shape[1]
    model = Attends(lambda mask: mask @ torch.eye(scans))
    with pytest.raises(UsageError, match="takes no further scan that is only padding: mat1"):
        validate_model(model, CrossEntropy(), batch, 2)


def test_attention_that_is_returned_on_demand_is_checked_too(batch):
    class OnDemand(nn.Module):
        return_attention: bool = False

        def forward(self, spectra, mask, tabular):
            weights = 0.5 if self.return_attention else None
            return {"logits": torch.zeros(len(mask), 2), "attention_weights": weights}

    model = OnDemand()
    with pytest.raises(UsageError, match="attention_weights as float"):
        validate_model(model, CrossEntropy(), batch, 2)
    assert model.return_attention is False


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"logits": None}, "returns no 'logits'"),
        ({"logits": [[0.0, 1.0]] * 4}, "logits as list, expected a float tensor"),
        ({"logits": torch.zeros(4, 2).long()}, r"logits as torch.int64, expected a float tensor"),
        ({"embedding": torch.zeros(4)}, r"embedding of shape \[4\], expected \[B, E\] = \[4, E\]"),
        ({"embedding": torch.zeros(4, 3, 2)}, r"embedding of shape \[4, 3, 2\]"),
        ({"spec_embedding": torch.zeros(3, 2)}, r"spec_embedding of shape \[3, 2\]"),
        ({"tab_embedding": [1.0, 2.0]}, "tab_embedding as list"),
        ({"spec_projection": torch.zeros(4)}, r"spec_projection of shape \[4\]"),
        ({"aux_logits_spec": torch.zeros(4, 3)}, r"aux_logits_spec of .* = \[4, 2\]"),
        ({"aux_logits_tab": torch.zeros(4)}, r"aux_logits_tab of shape \[4\]"),
        (
            {"spec_embedding": torch.zeros(4, 3), "gated_spec": torch.zeros(4, 5)},
            r"gated_spec of shape \[4, 5\], expected that of spec_embedding, \[4, 3\]",
        ),
    ],
)
def test_optional_outputs_of_another_form_are_refused(batch, others, message):
    with pytest.raises(UsageError, match=message) as error:
        validate_model(Returns(logits_and(**others)), CrossEntropy(), batch, 2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"loss": torch.tensor(1.0)}, "'total_loss', not: loss"),
        (torch.tensor(1.0), "not: Tensor"),
        ({"total_loss": torch.zeros(4)}, "'total_loss' must be a scalar"),
    ],
)
def test_a_broken_loss_is_named_with_what_was_expected(batch, terms, message):
    model = Returns({"logits": torch.zeros(4, 2)})
    with pytest.raises(UsageError, match=message):
        validate_model(model, lambda outputs, target: terms, batch, 2)


class OwnHead(nn.Module):
    """Logits from one layer, an embedding from another."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, spectra, mask, tabular):
        embedding = self.trunk(tabular)
        return {"logits": self.head(embedding), "embedding": embedding}


@pytest.mark.parametrize("name", ["supcon", "l2"])
def test_a_loss_that_leaves_the_predictions_untrained_is_refused(name):
    batch = TinyLoader().batches[0]
    model = OwnHead()
    model.trunk = nn.Linear(batch.tabular.shape[1], 4)
    with pytest.raises(UsageError, match=r"leaves 'head.weight' untrained|would be trained"):
        validate_model(model, resolve_name(LOSSES[name])(), batch, 2)


def test_a_loss_of_no_weight_is_refused(batch):
    with pytest.raises(UsageError, match="nothing would be trained"):
        validate_model(
            TinyModel(), lambda outputs, target: {"total_loss": torch.zeros(())}, batch, 2
        )


def test_a_loss_of_another_output_of_the_same_head_passes(batch):
    class LogProbabilities(TinyModel):
        def forward(self, spectra, mask, tabular):
            found = super().forward(spectra, mask, tabular)
            return {**found, "log": found["logits"].log_softmax(1)}

    def nll(outputs, target):
        return {"total_loss": nn.functional.nll_loss(outputs["log"], target)}

    assert validate_model(LogProbabilities(), nll, batch, 2) == ["total_loss"]

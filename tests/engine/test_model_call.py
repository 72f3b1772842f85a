from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import nn

from datasets.batches import Batch
from datasets.errors import UsageError
from engine.model_call import call_loss, call_model, check_loss_arguments, unwrap_model
from tests.tiny_problem import TinyLoader

MASK = torch.tensor([[True, False], [True, True]])


def batch(scan_rows=None):
    return Batch(
        torch.ones(2, 2, 3), MASK, torch.zeros(2, 1), torch.zeros(2), ["a", "b"], scan_rows
    )


class Plain(nn.Module):
    def forward(self, spectra, mask, tabular):
        return spectra, mask, tabular


class Asking(nn.Module):
    def forward(self, spectra, mask, tabular, scan_rows=None):
        return scan_rows


def test_a_model_is_given_scans_mask_and_covariates():
    given = batch(torch.tensor([0, 2, 3]))
    spectra, mask, tabular = call_model(Plain(), given)
    assert spectra is given.spectra
    assert mask is given.mask
    assert tabular is given.tabular


def test_a_model_that_takes_scan_rows_gets_them():
    rows = torch.tensor([0, 2, 3])
    assert call_model(Asking(), batch(rows)) is rows
    assert call_model(Asking(), batch()) is None


def test_a_batch_that_knows_no_rows_will_do():
    assert call_model(Asking(), next(iter(TinyLoader()))) is None


def test_a_compiled_model_gets_the_arguments_of_its_model():
    rows = torch.tensor([0, 2, 3])
    compiled = cast(nn.Module, torch.compile(Asking(), backend="eager"))
    assert unwrap_model(compiled) is not compiled
    assert call_model(compiled, batch(rows)) is rows


def test_a_model_inside_a_users_module_is_not_unwrapped():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = Asking()

        def forward(self, spectra, mask, tabular):
            return self.module(spectra, mask, tabular)

    outer = Outer()
    assert unwrap_model(outer) is outer
    assert call_model(outer, batch(torch.tensor([0]))) is None


class Loss(nn.Module):
    def forward(self, outputs, targets, aux=None):
        return aux


def needs_aux(outputs, targets, aux):
    return "called", aux


def takes_any(outputs, targets, **named):
    return named


@pytest.mark.parametrize(
    ("loss", "with_aux", "without"),
    [
        (Loss(), {"spec": 1}, None),
        (needs_aux, ("called", {"spec": 1}), ("called", None)),
        (takes_any, {"aux": {"spec": 1}}, {}),
        (lambda outputs, targets: "plain", "plain", "plain"),
    ],
)
def test_a_loss_is_given_aux_where_it_takes_it(loss, with_aux, without):
    assert call_loss(loss, None, None, {"spec": 1}) == with_aux
    assert call_loss(loss, None, None) == without


def test_a_loss_that_demands_more_is_refused():
    def demanding(outputs, targets, aux, weights):
        return {}

    with pytest.raises(UsageError, match=r"demanding cannot be called .*'weights'"):
        check_loss_arguments(demanding)


def test_a_loss_that_ignores_the_aux_of_batches_is_refused():
    with pytest.raises(UsageError, match="does not take the keyword aux"):
        check_loss_arguments(lambda outputs, targets: {}, aux={"spec": 1})


def test_aux_moves_with_its_batch():
    given = Batch(
        *(torch.zeros(2, 1, 1), MASK[:, :1], torch.zeros(2, 1), torch.zeros(2)), ["a", "b"]
    )
    given.aux = {"spec": torch.tensor([1, 0])}
    aux = given.to("cpu").aux
    assert aux is not None
    assert aux["spec"].tolist() == [1, 0]


class Adding(nn.Module):
    def forward(self, spectra, mask, tabular, offset=None):
        return offset


def test_a_model_that_takes_offsets_gets_those_of_the_batch():
    given = batch()
    assert call_model(Adding(), given) is None
    given.offset = torch.ones(2, 3)
    assert call_model(Adding(), given) is given.offset
    assert call_model(Plain(), given)[0] is given.spectra


def test_the_losses_of_parts_are_their_mean():
    def loss(outputs, targets, aux=None):
        total = (outputs["logits"] - targets).sum() + (0 if aux is None else aux["more"].sum())
        return {"total_loss": total, "half": total / 2}

    parts = [{"logits": torch.tensor([value])} for value in (1.0, 2.0, 6.0)]
    whole = {"logits": torch.tensor([100.0]), "parts": parts}
    found = call_loss(loss, whole, torch.tensor([1.0]))
    assert found == {"total_loss": 2.0, "half": 1.0}
    assert call_loss(loss, whole, torch.tensor([1.0]), {"more": torch.ones(4)})["half"] == 3.0

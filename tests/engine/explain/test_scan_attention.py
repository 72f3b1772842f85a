from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.explain.scan_attention import ScanAttention
from tests.engine.measured import SCANS, make_loader, measure
from tests.models.small_batch import small_model


def kept_of(model, loader=None):
    attention = ScanAttention()
    measure(model, loader or make_loader(), attention)
    return attention


def test_each_real_scan_has_its_weight_in_the_loaders_order():
    model, loader = small_model("tft"), make_loader()
    attention = kept_of(model, loader)
    assert attention.name == "scan_pooling"
    assert [len(own) for own in attention.weights] == [n for batch in SCANS for n in batch]
    model.eval()
    by_hand = []
    for batch in loader:
        found = model(batch.spectra, batch.mask, batch.tabular)["attention_weights"]
        by_hand += [w[m] for w, m in zip(found["scan_pooling"], batch.mask, strict=True)]
    for own, expected in zip(attention.weights, by_hand, strict=True):
        torch.testing.assert_close(own.float(), expected.detach())
        assert own.sum() == pytest.approx(1)


def test_the_pooling_of_scans_is_preferred_to_another_weight_of_them():
    assert kept_of(small_model("attention")).name == "scan_pooling"


@pytest.mark.parametrize("name", ["mean_linear", "tabular_only"])
def test_weights_of_covariates_are_not_taken_for_those_of_as_many_scans(name):
    attention = kept_of(small_model(name))
    assert attention.name is None
    assert attention.weights is None


def test_another_model_is_looked_at_anew():
    attention = kept_of(small_model("tft"))
    measure(small_model("mean_linear"), make_loader(), attention)
    assert attention.weights is None


@pytest.mark.parametrize("form", [lambda weights: weights, lambda weights: [None, weights]])
def test_weights_without_a_name_are_taken_too(form):
    class Attends(nn.Module):
        def forward(self, spectra, mask, tabular):
            return {"logits": spectra[:, 0, :2], "attention_weights": form(mask.float())}

    attention = kept_of(Attends())
    assert attention.name is not None
    assert [len(own) for own in attention.weights] == [n for batch in SCANS for n in batch]
    assert all(torch.allclose(own, own.mean()) for own in attention.weights)

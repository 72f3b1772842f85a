from __future__ import annotations

import pytest
import torch

from engine.explain.auxiliary_heads import AuxiliaryHeads
from tests.engine.measured import make_loader, measure
from tests.models.small_batch import small_model


def test_both_heads_logits_are_kept_in_the_loaders_order():
    model, loader, heads = small_model("tft", num_classes=3), make_loader(), AuxiliaryHeads()
    measure(model, loader, heads)
    model.eval()
    parts = [model(batch.spectra, batch.mask, batch.tabular) for batch in loader]
    assert heads.logits is not None
    for found, name in zip(heads.logits, ("aux_logits_spec", "aux_logits_tab"), strict=True):
        torch.testing.assert_close(found, torch.cat([part[name] for part in parts]).detach())


@pytest.mark.parametrize("name", ["spectra_only", "mean_linear", "tabular_only"])
def test_a_model_of_one_modality_has_none(name):
    heads = AuxiliaryHeads()
    measure(small_model(name), make_loader(), heads)
    assert heads.logits is None

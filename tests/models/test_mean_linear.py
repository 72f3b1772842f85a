"""The linear model of the mean scan is just that."""

from __future__ import annotations

import pytest
import torch

from models.mean_linear import MeanLinear
from tests.models.small_batch import SPEC_LEN, SmallBatch


def test_the_logits_are_linear_in_the_mean_of_the_real_scans(batch: SmallBatch) -> None:
    torch.manual_seed(0)
    model = MeanLinear(SPEC_LEN, num_classes=3)
    broken = batch.spectra.masked_fill(~batch.mask[..., None], float("nan"))
    out = model(broken, batch.mask)
    means = [scans[real].mean(0) for scans, real in zip(batch.spectra, batch.mask, strict=True)]
    expected = torch.stack(means)
    torch.testing.assert_close(out["embedding"], expected)
    torch.testing.assert_close(
        out["logits"], expected @ model.head.weight.T + model.head.bias, atol=1e-6, rtol=1e-5
    )


def test_it_never_looks_at_covariates(batch: SmallBatch) -> None:
    model = MeanLinear(SPEC_LEN)
    nothing = torch.zeros(6, 0)
    expected = model(*batch.inputs)["logits"]
    assert torch.equal(model(batch.spectra, batch.mask, nothing)["logits"], expected)


def test_spectra_of_another_length_are_refused(batch: SmallBatch) -> None:
    with pytest.raises(ValueError, match=r"spectra have 100 points .* spec_len=99"):
        MeanLinear(99)(*batch.inputs)

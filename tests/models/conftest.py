"""The small batch as a fixture."""

from __future__ import annotations

import pytest
import torch

from tests.models.small_batch import SCANS, SPEC_LEN, TAB_DIM, SmallBatch


@pytest.fixture
def batch() -> SmallBatch:
    torch.manual_seed(0)
    size, most = len(SCANS), max(SCANS)
    mask = torch.arange(most)[None] < torch.tensor(SCANS)[:, None]
    spectra = torch.randn(size, most, SPEC_LEN) * mask[..., None]
    return SmallBatch(spectra, mask, torch.randn(size, TAB_DIM), torch.arange(size) % 2)

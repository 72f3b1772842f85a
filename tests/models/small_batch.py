"""A ragged batch of a few samples, and settings of models small enough for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

SPEC_LEN = 100  # not a multiple of the patch size below
TAB_DIM = 5
SCANS = (3, 1, 4, 2, 4, 1)
SMALL: dict[str, Any] = {"patch_size": 16, "d_model": 16, "num_layers": 2, "num_heads": 4}


@dataclass
class SmallBatch:
    """Six samples of one to four scans."""

    spectra: Tensor
    mask: Tensor
    tabular: Tensor
    target: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.spectra, self.mask, self.tabular

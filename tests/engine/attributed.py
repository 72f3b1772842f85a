"""Models whose attributions are known, and a batch with padding to explain them on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datasets.batches import Batch

SCANS, POINTS, COVARIATES = (3, 1, 2, 3), 48, 4


def make_batch(seed: int = 0, counts: tuple[int, ...] = SCANS) -> Batch:
    """Random samples; what is padded holds garbage, too."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return Batch(
        spectra=torch.randn(len(counts), max(counts), POINTS, generator=generator),
        mask=mask,
        tabular=torch.randn(len(counts), COVARIATES, generator=generator),
        target=torch.zeros(len(counts)).long(),
        sample_id=[f"s{seed}-{number}" for number in range(len(counts))],
    )


class Weighted(nn.Module):
    """Scores that are plain sums, so that every attribution is known."""

    def __init__(self, recurrent: bool = False, outputs: int = 2) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.points = nn.Linear(POINTS, outputs, bias=False)
            self.covariates = nn.Linear(COVARIATES, outputs, bias=False)
            self.memory = nn.LSTM(POINTS, POINTS) if recurrent else None

    def forward(self, spectra: Tensor, mask: Tensor, tabular: Tensor) -> dict[str, Tensor]:
        total = (spectra * mask[..., None]).sum(dim=1)
        if self.memory is not None:
            total = self.memory(total[None])[0][0]
        return {"logits": self.points(total) + self.covariates(tabular)}

"""A small problem with everything a real one has: scans, batches, a norm, dropout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

FEATURES, CLASSES = 6, 2


@dataclass
class TinyBatch:
    """The batch contract on one scan of six points."""

    spectra: Tensor
    mask: Tensor
    tabular: Tensor
    target: Tensor
    sample_id: list[str]

    def to(self, device: Any, non_blocking: bool = False) -> TinyBatch:
        return replace(self, spectra=self.spectra.to(device), target=self.target.to(device))


class TinyLoader:
    """Batches in a fixed order a seed; the last one is smaller where sizes do not divide."""

    def __init__(self, samples: int = 20, batch_size: int = 4, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(samples, FEATURES, generator=generator)
        target = (points[:, 0] > 0).long()
        self.batches = [
            TinyBatch(
                points[i : i + batch_size, None],
                torch.ones(len(target[i : i + batch_size]), 1, dtype=torch.bool),
                torch.zeros(len(target[i : i + batch_size]), 0),
                target[i : i + batch_size],
                [f"s{k}" for k in range(i, min(i + batch_size, samples))],
            )
            for i in range(0, samples, batch_size)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[TinyBatch]:
        return iter(self.batches)


class TinyModel(nn.Module):
    """Dropout, a norm with buffers and two layers: what handlers meet in a real model."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1)
        )
        self.head = nn.Linear(8, CLASSES)

    def forward(self, spectra: Tensor, mask: Tensor, tabular: Tensor) -> dict[str, Tensor]:
        embedding = self.body(spectra.mean(dim=1))
        return {"logits": self.head(embedding), "embedding": embedding}

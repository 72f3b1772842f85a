"""The tiny problem for several processes, and for one that takes all their batches at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.loading import EpochBatchSampler
from engine.distributed import rank, world_size
from tests.tiny_problem import CLASSES, FEATURES, TinyBatch, TinyLoader


class SharedLoader:
    """This process's batches of shuffled samples, in double precision.

    Args:
        samples: How many there are.
        batch_size: Most samples a batch.
        joint: Of so many processes, take all batches of a step as one; None takes one's own.
        shuffle: A new order in each epoch.
        even: As many batches for each process.
    """

    def __init__(
        self,
        samples: int = 10,
        batch_size: int = 4,
        joint: int | None = None,
        shuffle: bool = True,
        even: bool = True,
    ) -> None:
        (self.all,) = TinyLoader(samples, batch_size=samples).batches
        self.joint = joint
        share = (rank(), world_size()) if joint is None else (0, joint)
        self.batch_sampler = EpochBatchSampler(
            samples, batch_size, shuffle, seed=3, rank=share[0], world_size=share[1], even=even
        )

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[TinyBatch]:
        sampler = self.batch_sampler
        if self.joint is None:
            return iter([self._batch([index for _, index in keys]) for keys in sampler])
        start, sampler.position = sampler.position, 0
        plan = sampler.plan(sampler.epoch)[start * self.joint :]
        steps = [plan[i : i + self.joint] for i in range(0, len(plan), self.joint)]
        return iter([self._batch(np.concatenate(step).tolist()) for step in steps])

    def _batch(self, rows: list[int]) -> TinyBatch:
        everything = self.all
        return replace(
            everything,
            spectra=everything.spectra[rows].double(),
            mask=everything.mask[rows],
            tabular=everything.tabular[rows],
            target=everything.target[rows],
            sample_id=[everything.sample_id[row] for row in rows],
        )


class PlainModel(nn.Module):
    """Nothing in it looks at a batch as a whole: joint batches give the same gradients.

    Args:
        idle: Add a layer that has no part in the loss.
        dropout: Of the embedding.
    """

    def __init__(self, idle: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, 8), nn.LayerNorm(8), nn.ReLU())
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, CLASSES)
        self.dropout = nn.Dropout(dropout)
        if idle:
            self.idle = nn.Linear(8, 8)
        self.double()

    def forward(self, spectra: Tensor, mask: Tensor, tabular: Tensor) -> dict[str, Tensor]:
        embedding = self.body(spectra.mean(dim=1))
        for block in self.blocks:
            embedding = embedding + block(embedding).relu()
        embedding = self.dropout(embedding)
        return {"logits": self.head(embedding), "embedding": embedding}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def largest_difference(left: Any, right: Any) -> float:
    """Between the tensors of two equal nests."""
    if isinstance(left, Tensor):
        return float((left.double() - right.double()).abs().max()) if left.numel() else 0.0
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        return max((largest_difference(left[key], right[key]) for key in left), default=0.0)
    if isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        pairs = zip(left, right, strict=True)
        return max((largest_difference(*pair) for pair in pairs), default=0.0)
    if isinstance(left, float):
        return 0.0 if left == right or (left != left and right != right) else abs(left - right)
    assert left == right
    return 0.0


def build_model(seed: int = 0, **settings: Any) -> PlainModel:
    """The same seed gives the same weights."""
    torch.manual_seed(seed)
    return PlainModel(**settings)

"""The task on which engines are compared: so small that what is left to measure is the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from datasets.batches import Batch

FEATURES, HIDDEN, CLASSES = 16, 32, 2
BATCH_SIZE = 64
# One validation batch for so many training batches, as in a split of 90 to 10.
TRAIN_TO_VAL = 10
NOISE = 1.0

# Called at the start of each epoch, before anything of it, and once when the run has ended.
Mark = Callable[[], None]


@dataclass(frozen=True)
class TinyTask:
    """Batches that are collated already, and the settings that all engines share.

    Attributes:
        train: Batches of 16 covariates, in the order in which all see them.
        val: The validation side.
        epochs: How often to go through ``train``.
        weight_decay: Of AdamW.
        lr: At full height; a cosine takes it to zero over the run.
        max_norm: What gradients are clipped to.
        ema_decay: Of the averaged weights that are validated.
        seed: Of the model's weights.
    """

    train: list[Batch]
    val: list[Batch]
    epochs: int
    weight_decay: float = 0.01
    lr: float = 1e-3
    max_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * len(self.train)

    def make_model(self) -> nn.Sequential:
        """The tiny MLP [B, 16] -> [B, 2]; the same weights each time."""
        torch.manual_seed(self.seed)
        return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))

    def pairs(self, side: str) -> list[tuple[Tensor, Tensor]]:
        """One side as other engines take it: points [64, 16] and target [64]."""
        return [(batch.tabular, batch.target) for batch in getattr(self, side)]


def make_task(steps: int, epochs: int, weight_decay: float = 0.01) -> TinyTask:
    """Draw a task of two overlapping classes.

    Args:
        steps: Training batches an epoch.
        epochs: How often to go through them.
        weight_decay: Of AdamW.

    Example:
        >>> task = make_task(steps=20, epochs=2)
        >>> task.steps, len(task.val), list(task.train[0].tabular.shape)
        (40, 2, [64, 16])
    """
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(FEATURES, generator=generator)
    sides = []
    for batches in (steps, max(1, steps // TRAIN_TO_VAL)):
        points = torch.randn(batches, BATCH_SIZE, FEATURES, generator=generator)
        noise = NOISE * torch.randn(batches, BATCH_SIZE, generator=generator)
        target = (points @ direction + noise > 0).long()
        names = [[f"{i}-{k}" for k in range(BATCH_SIZE)] for i in range(batches)]
        spectra = torch.zeros(BATCH_SIZE, 1, 1)
        mask = torch.ones(BATCH_SIZE, 1, dtype=torch.bool)
        sides.append(
            [
                Batch(spectra, mask, points[i].clone(), target[i].clone(), names[i])
                for i in range(batches)
            ]
        )
    train, val = sides
    return TinyTask(train, val, epochs=epochs, weight_decay=weight_decay)


# Trains a task, writing to a folder, and returns the trained MLP.
Engine = Callable[[TinyTask, Path, Mark], nn.Module]

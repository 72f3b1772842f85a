"""Outputs of each task, drawn, for figures that need no trained model."""

from __future__ import annotations

import torch

from engine.metrics import EpochOutputs

SAMPLES = 30
NAMES = {
    "binary": ["control", "case"],
    "multiclass": ["a", "b", "c", "d"],
    "multilabel": ["liver", "heart", "lung"],
    "regression": ["age", "BMI"],
}


def make_outputs(task: str, samples: int = SAMPLES) -> EpochOutputs:
    """Predictions that are better than chance, and not perfect."""
    torch.manual_seed(0)
    width = len(NAMES[task])
    if task in ("binary", "multiclass"):
        target = torch.arange(samples) % width
        logits = torch.randn(samples, width) + torch.eye(width)[target]
    elif task == "multilabel":
        target = (torch.rand(samples, width) < 0.4).float()
        logits = torch.randn(samples, width) + 2 * target - 1
    else:
        target = 10 * torch.randn(samples, width)
        logits = target + torch.randn(samples, width)
    names = [f"s{i}" for i in range(samples)]
    targets = NAMES[task] if task == "regression" else ()
    return EpochOutputs(logits, target, names, {"total_loss": 0.5}, task, targets=targets)

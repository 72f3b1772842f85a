"""Ragged samples in two batches, and a model measured on them with something attached."""

from __future__ import annotations

import torch
from torch import nn

from datasets.batches import Batch
from engine.evaluator import Evaluator
from engine.losses import CrossEntropy
from engine.metrics import EpochMetrics, OutputCollector
from tests.models.small_batch import SPEC_LEN, TAB_DIM

# The first batch has as many scans as there are covariates: sizes alone do not tell them apart.
SCANS = ((TAB_DIM, 1, 2), (3, 1))


def make_loader(seed: int = 0) -> list[Batch]:
    """Five samples, what is padded filled with noise."""
    torch.manual_seed(seed)
    batches = []
    for scans in SCANS:
        mask = torch.arange(max(scans)) < torch.tensor(scans)[:, None]
        size = len(scans)
        spectra = torch.randn(size, max(scans), SPEC_LEN)
        names = [f"s{i}" for i in range(size)]
        target = torch.arange(size) % 2
        batches.append(Batch(spectra, mask, torch.randn(size, TAB_DIM), target, names))
    return batches


def measure(model: nn.Module, loader: list[Batch], *kept: OutputCollector) -> None:
    """Evaluate a model once."""
    evaluator = Evaluator(model, CrossEntropy(), EpochMetrics())
    for one in kept:
        one.attach(evaluator)
    evaluator.evaluate(loader)

"""From the ``data.batching`` section to loaders: which samples make a batch, and how it travels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from datasets.batches import Sample, packed_collate, pad_collate
from datasets.errors import UsageError
from datasets.loading import (
    BucketBatchSampler,
    EpochBatchSampler,
    PlannedBatchSampler,
    SpectraDataset,
    make_loader,
)
from experiments.config import BatchingConfig, Config

TRAIN = "train"
# Evaluation keeps no activations for a backward pass, so that larger batches fit.
EVALUATION_BATCH_FACTOR = 2


def build_loaders(
    config: Config,
    datasets: Mapping[str, SpectraDataset],
    classes: np.ndarray,
    groups: np.ndarray,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, DataLoader[Any]]:
    """Make a loader of each subset; only training shuffles and balances.

    All ranks have the same number of batches; in evaluation each sample is on exactly one rank.

    ``classes`` and ``groups`` are of the training set, [N_train]; other targets cannot be balanced.
    """
    batching = config.data.batching
    to_gpu = torch.cuda.is_available() and config.trainer.device != "cpu"
    loaders = {}
    for subset, dataset in datasets.items():
        strata = {"none": None, "class": classes, "group": groups}[batching.balance]
        sampler = _sampler(
            config, dataset, subset == TRAIN, strata if subset == TRAIN else None, rank, world_size
        )
        loaders[subset] = make_loader(
            dataset,
            seed=config.seed,
            num_workers=config.data.num_workers,
            pin_memory=to_gpu,
            sampler=sampler,
            collate=_collate(batching, to_gpu),
        )
    return loaders


def _sampler(
    config: Config,
    dataset: SpectraDataset,
    train: bool,
    strata: np.ndarray | None,
    rank: int,
    world_size: int,
) -> PlannedBatchSampler:
    factor = 1 if train else EVALUATION_BATCH_FACTOR
    batching, batch_size = config.data.batching, config.trainer.batch_size * factor
    shared: dict[str, Any] = {"strata": strata, "rank": rank, "world_size": world_size}
    if batching.kind == "shuffle":
        shared["lengths"] = dataset.scan_counts
        return EpochBatchSampler(len(dataset), batch_size, train, config.seed, **shared)
    # Padded, those of one multiple are equally long.
    multiple = batching.pad_scans_to or 1
    lengths = -(-dataset.scan_counts // multiple) * multiple
    max_scans = None
    if batching.token_budget is not None:
        points = max(1, dataset.spec_len)
        needed = int(lengths.max(initial=0)) * points
        if needed > batching.token_budget * factor:
            has = "has" if multiple == 1 else "is padded to"
            raise UsageError(
                f"data.batching.token_budget: a sample {has} {lengths.max()} scans of {points} "
                f"points; at least {-(-needed // factor)} was expected, not {batching.token_budget}"
            )
        max_scans = batching.token_budget * factor // points
    return BucketBatchSampler(lengths, batch_size, train, config.seed, max_scans, **shared)


def _collate(batching: BatchingConfig, to_gpu: bool) -> Callable[[Sequence[Sample]], Any]:
    """Packed batches save pinned memory and copies to a GPU; on a CPU padding at once is faster."""
    packed = batching.collate == "packed" or (batching.collate == "auto" and to_gpu)
    collate: Callable[..., Any] = packed_collate if packed else pad_collate
    multiples = {"pad_rows_to": batching.pad_rows_to, "pad_scans_to": batching.pad_scans_to}
    chosen = {name: multiple for name, multiple in multiples.items() if multiple is not None}
    return partial(collate, **chosen) if chosen else collate

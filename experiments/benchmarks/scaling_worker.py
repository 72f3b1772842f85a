"""One of the processes of which ``scaling.py`` measures how they train together."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import ignite.distributed as idist
import numpy as np
import torch

from datasets.batches import Batch
from datasets.files import write_whole
from datasets.loading import BucketBatchSampler, EpochBatchSampler, SpectraDataset, make_loader
from engine import EpochMetrics, Evaluator
from engine.distributed import BACKENDS, gather, is_main_process, rank, world_size
from engine.protocols import Handler
from experiments.benchmarks.step_clock import StepClock
from experiments.benchmarks.step_settings import (
    CLASSES,
    Repeated,
    StepSize,
    Variant,
    draw_batch,
    draw_counts,
    make_model,
    make_trainer,
    parse_variant,
    unfilled,
)
from handlers.distributed_training import DistributedTraining
from models.tft_loss import TFTLoss

# A prime number, which no number of processes or samples a batch divides.
VALIDATION_SAMPLES = 101


def work(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Train for a while together with the other processes, then measure together.

    Args:
        settings: ``size``, ``variant``, ``device``, ``batches`` (of all processes together),
            ``static_graph``, ``overlap``, ``seconds``, ``steps`` and ``warmup``.

    Returns:
        Milliseconds a step of this process, and the metrics that it came to.
    """
    size, variant = StepSize(**settings["size"]), parse_variant(settings["variant"])
    # Where several GPUs are, each process has been given its own.
    device = idist.device() if settings["device"] == "cuda" else torch.device("cpu")
    clock = StepClock(settings["seconds"], settings["warmup"], settings["steps"], _most)
    together = DistributedTraining(
        static_graph=settings["static_graph"], overlap=settings["overlap"]
    )
    handlers: list[Handler] = [together, clock]
    trainer = make_trainer(size, variant, device, handlers)
    batches = own_batches(size, settings["batches"], device)
    if not variant.compiled:
        batches = [unfilled(batch) for batch in batches]
    trainer.fit(Repeated(batches), max_epochs=1)
    return {"ms": clock.median_ms, "metrics": measure_validation(size, device)}


def own_batches(size: StepSize, count: int, device: torch.device) -> list[Batch]:
    """What is this process's of so many batches, as an epoch is dealt out to processes.

    All have the same samples to share, however many they are: so one process has as much to do as
    two together have.
    """
    counts = draw_counts(size, count * size.samples, np.random.default_rng(0))
    sampler = EpochBatchSampler(
        len(counts), size.samples, True, 0, rank=rank(), world_size=world_size(), lengths=counts
    )
    noise = np.random.default_rng([1, rank()])
    drawn = [counts[[key[1] for key in keys]] for keys in sampler]
    return [draw_batch(size, of_each, noise, device) for of_each in drawn]


def _most(windows: int) -> int:
    """What is planned in this process, given to all."""
    return max(gather(windows))


def measure_validation(size: StepSize, device: torch.device) -> dict[str, float]:
    """Metrics of a model that has learned nothing, over a side that the processes share."""
    rng = np.random.default_rng(0)
    counts = draw_counts(size, VALIDATION_SAMPLES, rng)
    total = int(counts.sum())
    dataset = SpectraDataset(
        rng.standard_normal((total, size.points), np.float32),
        np.split(np.arange(total), np.cumsum(counts)[:-1]),
        rng.standard_normal((VALIDATION_SAMPLES, size.covariates), np.float32),
        rng.integers(CLASSES, size=VALIDATION_SAMPLES),
        [str(number) for number in range(VALIDATION_SAMPLES)],
    )
    sampler = BucketBatchSampler(
        dataset.scan_counts,
        min(size.samples, VALIDATION_SAMPLES // 4),  # so that each process has something to do
        shuffle=False,
        seed=0,
        rank=rank(),
        world_size=world_size(),
        even=False,
    )
    model = make_model(size, Variant(packed=True)).to(device)
    evaluator = Evaluator(model, TFTLoss(), EpochMetrics(), device)
    return evaluator.evaluate(make_loader(dataset, sampler=sampler))


def main(arguments: list[str]) -> int:
    """Read the settings from the first file; the first process writes all results to the second."""
    asked, found = map(Path, arguments)
    settings = json.loads(asked.read_text("utf-8"))
    torch.set_num_threads(1)
    if settings["device"] == "cuda":
        idist.initialize(BACKENDS["cuda"])
    else:  # Ignite would give each process a GPU, and fail where they are too few
        torch.distributed.init_process_group(BACKENDS["cpu"])
        idist.sync()
    try:
        results = gather(work(settings))
        if is_main_process():
            write_whole(json.dumps(results).encode(), found.parent, found.name, durable=False)
    finally:
        # What still speaks over the connections goes before they do.
        gc.collect()
        idist.finalize()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""How much longer a step is where its batch comes from a memory map and not from the device."""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from torch.utils.data import DataLoader

from datasets.batches import packed_collate
from datasets.errors import UsageError
from datasets.loading import SpectraDataset, make_loader
from engine.events import Phase
from engine.trainer import Trainer
from experiments.benchmarks.step_memory import StepMemory, release_memory
from experiments.benchmarks.step_settings import (
    CLASSES,
    StepSize,
    Variant,
    draw_counts,
    make_trainer,
)
from experiments.config import SHARED_ROWS
from handlers.throughput import SAMPLES, STEP, WAIT, Throughput

SPECTRA = "spectra.npy"
BLOCK_BYTES = 64 * 2**20
# The first epochs from both places warm up: pinned memory is fetched, and graphs are recorded, on a
# GPU of the rarer shapes for some epochs yet. An epoch that records one takes a third longer.
WARMUP_PAIRS = {"cpu": 2, "cuda": 10}
COLUMNS = ("resident ms", "memmap ms", "longer by", "data_wait", "samples/s", "peak MiB")


def write_spectra(folder: Path, size: StepSize, samples: int) -> list[np.ndarray]:
    """Write scans of noise to a file.

    Args:
        folder: It exists.
        size: Of the scans.
        samples: How many.

    Returns:
        Each sample's rows in the file.
    """
    rng = np.random.default_rng(0)
    ends = np.cumsum(draw_counts(size, samples, rng))
    total = int(ends[-1])
    # One block again and again: drawing all of it would take longer than everything else.
    step = max(1, BLOCK_BYTES // (4 * size.points))
    block = rng.standard_normal((min(step, total), size.points), np.float32)
    head = {"descr": "<f4", "fortran_order": False, "shape": (total, size.points)}
    with (folder / SPECTRA).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        for start in range(0, total, step):
            file.write(block[: total - start].data)
    return np.split(np.arange(total), ends[:-1])


def open_dataset(folder: Path, size: StepSize, rows: Sequence[np.ndarray]) -> SpectraDataset:
    """The samples of these rows, read from the memory map each time."""
    rng = np.random.default_rng(1)
    return SpectraDataset(
        np.load(folder / SPECTRA, mmap_mode="r"),
        rows,
        rng.standard_normal((len(rows), size.covariates), np.float32),
        rng.integers(CLASSES, size=len(rows)),
        [str(number) for number in range(len(rows))],
        cache=False,
    )


def open_loader(
    dataset: SpectraDataset, size: StepSize, workers: int, fill: bool = False
) -> DataLoader[Any]:
    """As a run on a GPU reads: packed and pinned.

    Args:
        dataset: Two batches at least.
        size: Of the batches.
        workers: Processes that read.
        fill: Fill up to shapes that many batches share, for compiled steps.
    """
    filled: dict[str, Any] = (
        {"pad_rows_to": SHARED_ROWS, "pad_scans_to": size.scans} if fill else {}
    )
    return make_loader(
        dataset,
        min(size.samples, len(dataset)),
        shuffle=True,
        num_workers=workers,
        pin_memory=True,
        # The last batch of another size would be recorded and compiled anew.
        drop_last=True,
        collate=functools.partial(packed_collate, **filled),
    )


class InTurns:
    """An epoch's batches from the device, then an epoch from the loader, and so on.

    Args:
        loader: Its first epoch's batches are kept on the device.
        device: Where.
    """

    def __init__(self, loader: DataLoader[Any], device: torch.device) -> None:
        self.loader = loader
        self.batch_sampler = loader.batch_sampler
        self.resident = [batch.to(device) for batch in loader]
        self.from_loader = True

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """The next epoch, from the other place."""
        self.from_loader = not self.from_loader
        return iter(self.loader if self.from_loader else self.resident)


def measure_epochs(
    trainer: Trainer, loader: InTurns, pairs: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Train on both places in turn; each epoch's time, of the resident and of the loaded ones.

    Args:
        trainer: As :func:`make_trainer` makes it, with a ``Throughput``.
        loader: Not gone through yet.
        pairs: Epochs of each place that count.
    """
    places: dict[bool, list[dict[str, float]]] = {False: [], True: []}

    def keep() -> None:
        metrics = trainer.state.metrics
        times = {name: metrics[name] for name in (SAMPLES, WAIT, STEP)}
        places[loader.from_loader].append(times)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, keep, phase=Phase.REPORT)
    warmup = WARMUP_PAIRS[trainer.device.type]
    trainer.fit(loader, max_epochs=2 * (warmup + pairs))
    return places[False][warmup:], places[True][warmup:]


def measure_wait(
    size: StepSize, variants: Sequence[Variant], device: torch.device, options: argparse.Namespace
) -> dict[str, Any]:
    """Measure each variant on a cohort of ``options.cohort`` samples.

    Args:
        size: Of batches and model.
        variants: How to compute.
        device: Where.
        options: With ``cohort``, ``folder``, ``workers`` and ``rounds``.

    Raises:
        UsageError: The cohort does not fill a batch.
    """
    if options.cohort < 2 * size.samples:
        raise UsageError(f"--cohort: two batches at least, {2 * size.samples} samples")
    found: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = write_spectra(Path(folder), size, options.cohort)
        dataset = open_dataset(Path(folder), size, rows)
        gibibytes = dataset.spectra.nbytes / 2**30
        print(f"{len(dataset)} samples, {len(dataset.spectra)} scans ({gibibytes:.2f} GiB)")
        for variant in variants:
            fill = variant.compiled is not None
            loader = InTurns(open_loader(dataset, size, options.workers, fill), device)
            try:
                with StepMemory(device) as memory:
                    trainer = make_trainer(size, variant, device, [Throughput()])
                    resident, loaded = measure_epochs(trainer, loader, options.rounds)
            except UsageError as error:
                left_out[variant.name] = str(error)
            except Exception as error:
                left_out[variant.name] = str(error).strip().splitlines()[0]
                traceback.print_exc()
            else:
                found[variant.name] = _row(resident, loaded, memory.mebibytes)
                ms = found[variant.name]["memmap_ms"]
                print(f"{variant.name}: {ms:.2f} ms", file=sys.stderr, flush=True)
            if variant.compiled:
                torch.compiler.reset()
            del loader
            release_memory()
    return {"samples": options.cohort, "gib": gibibytes, "rows": found, "left_out": left_out}


def _row(
    resident: list[dict[str, float]], loaded: list[dict[str, float]], mebibytes: float
) -> dict[str, Any]:
    def median(epochs: list[dict[str, float]], name: str) -> float:
        return statistics.median(epoch[name] for epoch in epochs)

    shares = [1 - own[STEP] / theirs[STEP] for own, theirs in zip(resident, loaded, strict=True)]
    return {
        "resident_ms": median(resident, STEP),
        "memmap_ms": median(loaded, STEP),
        "longer_by": statistics.median(shares),
        "data_wait": median(loaded, WAIT),
        "samples_per_s": median(loaded, SAMPLES),
        "peak_mib": mebibytes,
        "epochs": {"resident": resident, "memmap": loaded},
    }


def print_wait(results: dict[str, Any]) -> None:
    """The table; ``longer by`` is of the loaded step."""
    width = max(map(len, results["rows"]), default=0)
    print(" " * width + "".join(f"{head:>13}" for head in COLUMNS))
    for name, row in results["rows"].items():
        cells = (
            f"{row['resident_ms']:.2f}",
            f"{row['memmap_ms']:.2f}",
            f"{row['longer_by']:.1%}",
            f"{row['data_wait']:.1%}",
            f"{row['samples_per_s']:.0f}",
            f"{row['peak_mib']:.0f}",
        )
        print(f"{name:<{width}}" + "".join(f"{cell:>13}" for cell in cells))
    for name, reason in results["left_out"].items():
        print(f"left out: {name}: {reason}")

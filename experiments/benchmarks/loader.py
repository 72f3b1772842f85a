"""How fast a large cohort is opened and loaded, and in how much memory.

``python experiments/benchmarks/loader.py --samples 100000 --out loader.json`` writes a cohort of
that size to a temporary folder (removed at the end), opens it, and goes through it by several
loaders in turn:

* ``naive``: one sample at a time, indexed from the memory map, shuffled, padded, as one writes it
  first;
* ``getitem``: one sample at a time, as ``dataset[i]`` reads it, shuffled, padded;
* ``getitems``: a batch at a time, shuffled, padded;
* ``buckets``: batches of samples with about as many scans, padded;
* ``packed``: the same without padding, as they are sent to a GPU.

A sample has 1 to 2 x SCANS - 1 scans, as likely each. Shown is the median over the rounds of the
samples a second, and of each round's ratio to ``naive``; the same of the processor's time, which
tells more where the machine has other things to do; how much of the batches is padding; and by how
much at most the memory of the process rose in any round. Files just written are in the system's
cache, so that no disk is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from datasets.batches import Batch, Sample, packed_collate, pad_collate
from datasets.cohort import AXIS_FILE, SAMPLES_FILE, SCANS_FILE, SPECTRA_FILE, Cohort
from datasets.errors import UsageError
from datasets.loading import BucketBatchSampler, SpectraDataset, make_loader
from datasets.specs import require_whole
from experiments.benchmarks.peak_memory import PeakMemory

REFERENCE = "naive"
BLOCK_BYTES = 64 * 2**20
COVARIATES = ("age", "CRP", "albumin")

HEADER = ("", "samples/s", "ratio", "CPU us", "CPU ratio", "padding", "peak MiB")

Row = dict[str, float]
Collate = Callable[[Sequence[Sample]], Any]


class OneAtATime(Dataset[Sample]):
    """Without ``__getitems__``, so that a loader asks for each sample by itself."""

    def __init__(self, dataset: SpectraDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """N."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """One sample."""
        return self.dataset[index]


class FromTheMap(OneAtATime):
    """What one writes first: a sample's rows of the memory map, by index."""

    def __getitem__(self, index: int) -> Sample:
        """One sample."""
        whole = self.dataset
        scans = np.array(whole.spectra[whole.scan_rows[index]])
        return Sample(scans, whole.tabular[index], whole.targets[index], whole.sample_ids[index])


def pad_as_torch_does(samples: Sequence[Sample]) -> Batch:
    """Pad what was read one at a time."""
    scans = [torch.from_numpy(sample.spectra) for sample in samples]
    counts = torch.tensor([len(each) for each in scans])
    return Batch(
        spectra=pad_sequence(scans, batch_first=True),
        mask=torch.arange(int(counts.max())) < counts[:, None],
        tabular=torch.from_numpy(np.stack([sample.tabular for sample in samples])),
        target=torch.tensor(np.array([sample.target for sample in samples])),
        sample_id=[sample.sample_id for sample in samples],
    )


def write_cohort(folder: Path, samples: int, scans: int, points: int) -> None:
    """Write a cohort of noise.

    Args:
        folder: It exists.
        samples: How many.
        scans: Of a sample on average.
        points: Of a scan.
    """
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 2 * scans, samples)
    ids = np.char.add("S", np.arange(samples).astype(str))
    covariates = {name: rng.normal(50, 10, samples).round(2) for name in COVARIATES}
    labels = np.where(rng.random(samples) < 0.5, "control", "case")
    table = {"sample_id": ids, "group": ids, "label": labels}
    pd.DataFrame({**table, **covariates}).to_csv(folder / SAMPLES_FILE, index=False)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    numbers = np.arange(counts.sum()) - first
    scan_table = pd.DataFrame({"sample_id": np.repeat(ids, counts), "scan": numbers})
    scan_table.to_csv(folder / SCANS_FILE, index=False)
    np.save(folder / AXIS_FILE, np.linspace(2000, 20000, points, dtype=np.float32))
    # One block again and again: drawing all of it would take longer than everything else.
    step = max(1, BLOCK_BYTES // (4 * points))
    block = rng.gamma(2.0, 100.0, (step, points)).astype(np.float32)
    total = len(numbers)
    header = np.lib.format.open_memmap(folder / SPECTRA_FILE, "w+", np.float32, (total, points))
    offset = int(header.offset)
    del header
    with (folder / SPECTRA_FILE).open("r+b") as file:
        file.seek(offset)
        for start in range(0, total, step):
            file.write(block[: total - start].data)


def open_dataset(folder: Path) -> tuple[SpectraDataset, float]:
    """Open a cohort; returns its samples, and how many seconds opening took."""
    began = time.perf_counter()
    cohort = Cohort.read(folder, numeric=list(COVARIATES))
    seconds = time.perf_counter() - began
    tabular = cohort.samples[list(COVARIATES)].to_numpy(np.float32)
    dataset = SpectraDataset(
        cohort.spectra, cohort.scan_rows, tabular, cohort.targets, cohort.sample_ids, cache=False
    )
    return dataset, seconds


def make_loaders(
    dataset: SpectraDataset, batch_size: int, workers: int
) -> dict[str, DataLoader[Any]]:
    """The loaders that are compared, by name."""

    def buckets() -> BucketBatchSampler:
        return BucketBatchSampler(dataset.scan_counts, batch_size, shuffle=True, seed=0)

    def one_at_a_time(data: Dataset[Sample], collate: Collate) -> DataLoader[Any]:
        return DataLoader(data, batch_size, shuffle=True, collate_fn=collate, num_workers=workers)

    return {
        REFERENCE: one_at_a_time(FromTheMap(dataset), pad_as_torch_does),
        "getitem": one_at_a_time(OneAtATime(dataset), pad_collate),
        "getitems": make_loader(dataset, batch_size, shuffle=True, num_workers=workers),
        "buckets": make_loader(dataset, sampler=buckets(), num_workers=workers),
        "packed": make_loader(
            dataset, sampler=buckets(), num_workers=workers, collate=packed_collate
        ),
    }


def go_through(loader: DataLoader[Any]) -> Row:
    """Load an epoch: time a sample, per cent of padding, and MiB that the memory rose by."""
    samples = real = places = 0
    with PeakMemory() as peak:
        began, began_cpu = time.perf_counter(), time.process_time()
        for batch in loader:
            samples += len(batch)
            real += int(batch.mask.sum())
            places += batch.mask.numel()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    return {
        "us": seconds / samples * 1e6,
        "cpu_us": cpu_seconds / samples * 1e6,
        "padding_percent": 100 * (1 - real / places),
        "peak_mib": peak.mebibytes,
    }


def compare(loaders: dict[str, DataLoader[Any]], rounds: int) -> dict[str, Row]:
    """Go through all loaders in turn, every second round backwards; a row of figures each."""
    found: dict[str, list[Row]] = {name: [] for name in loaders}
    for number in range(rounds):
        for name in list(loaders) if number % 2 == 0 else list(loaders)[::-1]:
            found[name].append(go_through(loaders[name]))
    return {name: _summary(rows, found[REFERENCE]) for name, rows in found.items()}


def _summary(rows: list[Row], naive: list[Row]) -> Row:
    def median_ratio(key: str) -> float:
        pairs = zip(naive, rows, strict=True)
        return statistics.median(reference[key] / own[key] for reference, own in pairs)

    return {
        "samples_per_s": 1e6 / statistics.median(row["us"] for row in rows),
        "ratio": median_ratio("us"),
        "cpu_us": statistics.median(row["cpu_us"] for row in rows),
        "cpu_ratio": median_ratio("cpu_us"),
        "padding_percent": rows[0]["padding_percent"],
        "peak_mib": max(row["peak_mib"] for row in rows),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=10_000, metavar="N")
    parser.add_argument("--scans", type=int, default=8, metavar="S", help="a sample, on average")
    parser.add_argument("--points", type=int, default=2048, metavar="L", help="a scan")
    parser.add_argument("--batch-size", type=int, default=32, metavar="B")
    parser.add_argument("--workers", type=int, default=0, metavar="W")
    parser.add_argument("--rounds", type=int, default=3, metavar="R", help="turns of each loader")
    parser.add_argument("--folder", type=Path, help="where the cohort is written, and removed")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    chosen = parser.parse_args(arguments)
    try:
        for name in ("samples", "scans", "points", "batch_size", "rounds"):
            require_whole(f"--{name.replace('_', '-')}", getattr(chosen, name), 1)
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            write_cohort(Path(folder), chosen.samples, chosen.scans, chosen.points)
            dataset, seconds = open_dataset(Path(folder))
            print(
                f"{len(dataset)} samples, {len(dataset.spectra)} scans of {dataset.spec_len} "
                f"points ({dataset.spectra.nbytes / 2**30:.2f} GiB): opened in {seconds:.2f} s"
            )
            loaders = make_loaders(dataset, chosen.batch_size, chosen.workers)
            rows = compare(loaders, chosen.rounds)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("".join(f"{head:>11}" for head in HEADER))
    for name, row in rows.items():
        print(
            f"{name:>11}{row['samples_per_s']:>11.0f}{row['ratio']:>11.2f}{row['cpu_us']:>11.1f}"
            f"{row['cpu_ratio']:>11.2f}{row['padding_percent']:>10.1f}%{row['peak_mib']:>11.0f}"
        )
    if chosen.out is not None:
        sizes = {name: getattr(chosen, name) for name in ("samples", "scans", "points")}
        settings = {**sizes, "batch_size": chosen.batch_size, "workers": chosen.workers}
        results = {**settings, "open_seconds": seconds, "loaders": rows}
        chosen.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())

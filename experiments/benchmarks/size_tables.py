"""Memory and time of a step against its sizes."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from datasets.loading import SpectraDataset
from experiments.benchmarks.data_wait import open_dataset, open_loader, write_spectra
from experiments.benchmarks.step_clock import MS_PER_S
from experiments.benchmarks.step_figures import Effort, Figures, measure_all
from experiments.benchmarks.step_memory import StepMemory
from experiments.benchmarks.step_settings import StepSize, Variant, make_trainer
from handlers.throughput import SAMPLES, Throughput

SCANS = (4, 8, 16, 32)
# Of L, from a quarter of what is asked for to twice that.
POINT_FACTORS = (0.25, 0.5, 1.0, 2.0)
SHARES = (0.25, 0.5, 0.75, 1.0)
COHORT_FACTORS = (0.25, 0.5, 1.0)
US_PER_MS = 1000.0
COLUMNS = ("scans/step", "ms", "us/scan", "to first", "peak MiB", "reserved")
COHORT_COLUMNS = ("us/sample", "to first", "host MiB", "device MiB")


def blocks(size: StepSize) -> Iterator[tuple[str, list[tuple[str, StepSize]]]]:
    """What is varied, and its values with the sizes that they make."""
    yield "S", [(str(scans), replace(size, scans=scans)) for scans in SCANS]
    points = [int(size.points * factor) for factor in POINT_FACTORS]
    yield "L", [(str(length), replace(size, points=length)) for length in points]
    # All scans of all samples are real where every sample has S.
    yield "real scans", [(f"{share:.0%}", replace(size, valid=share)) for share in SHARES]


def measure_sizes(
    size: StepSize,
    variant: Variant,
    device: torch.device,
    effort: Effort,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Measure and print all blocks.

    Args:
        size: What is not varied.
        variant: How to compute.
        device: Where.
        effort: How long each.
        options: With ``cohort``, ``folder``, ``workers``.
    """
    results: dict[str, Any] = {"variant": variant.name, "left_out": {}}
    for name, sizes in blocks(size):
        print(f"\n{name:<14}{'checkpointed':>13}" + "".join(f"{c:>11}" for c in COLUMNS))
        rows = results[name] = []
        for checkpointed in (False, True) if name != "real scans" else (False,):
            chosen = replace(variant, checkpointed=checkpointed)
            first: Figures | None = None
            for value, own in sizes:
                found, left_out = measure_all(own, [chosen], device, effort, say=_silent)
                if left_out:
                    results["left_out"][f"{name} {value} {chosen.name}"] = left_out[chosen.name]
                    print(f"left out: {name} {value} {chosen.name}: {left_out[chosen.name]}")
                    continue
                figures = found[chosen.name]
                first = first or figures
                rows.append(_row(value, checkpointed, figures, first))
                _print_row(rows[-1])
    results["N"] = measure_cohorts(size, variant, device, options)
    return results


def _silent(line: str) -> None:
    """The table itself tells."""


def _row(value: str, checkpointed: bool, figures: Figures, first: Figures) -> dict[str, Any]:
    per_scan = figures.ms / figures.scans
    return {
        "value": value,
        "checkpointed": checkpointed,
        "scans": figures.scans,
        "ms": figures.ms,
        "us_a_scan": per_scan * US_PER_MS,
        "us_a_scan_to_first": per_scan / (first.ms / first.scans),
        "peak_mib": figures.mebibytes,
        "reserved_mib": figures.reserved,
    }


def _print_row(row: dict[str, Any]) -> None:
    cells = (
        f"{row['scans']:.0f}",
        f"{row['ms']:.2f}",
        f"{row['us_a_scan']:.2f}",
        f"{row['us_a_scan_to_first']:.2f}",
        f"{row['peak_mib']:.0f}",
        f"{row['reserved_mib']:.0f}",
    )
    shown = "yes" if row["checkpointed"] else "no"
    print(f"{row['value']:<14}{shown:>13}" + "".join(f"{c:>11}" for c in cells), flush=True)


def measure_cohorts(
    size: StepSize, variant: Variant, device: torch.device, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """An epoch of so many samples from a memory map: its time a sample and its memory."""
    print(f"\n{'N':<14}" + "".join(f"{column:>11}" for column in COHORT_COLUMNS))
    counts = [max(2 * size.samples, int(options.cohort * factor)) for factor in COHORT_FACTORS]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        scan_rows = write_spectra(Path(folder), size, max(counts))
        for count in counts:
            dataset = open_dataset(Path(folder), size, scan_rows[:count])
            rows.append(
                {"samples": count, **_epoch(dataset, size, variant, device, options.workers)}
            )
            row, first = rows[-1], rows[0]
            cells: Sequence[str] = (
                f"{row['us_a_sample']:.1f}",
                f"{row['us_a_sample'] / first['us_a_sample']:.2f}",
                f"{row['host_mib']:.0f}",
                f"{row['device_mib']:.0f}",
            )
            print(f"{count:<14}" + "".join(f"{cell:>11}" for cell in cells), flush=True)
    return rows


def _epoch(
    dataset: SpectraDataset, size: StepSize, variant: Variant, device: torch.device, workers: int
) -> dict[str, float]:
    """The second of two epochs; the first warms up."""
    with StepMemory(torch.device("cpu")) as host, StepMemory(device) as there:
        trainer = make_trainer(size, variant, device, [Throughput()])
        trainer.fit(open_loader(dataset, size, workers, variant.compiled is not None), max_epochs=2)
    return {
        "us_a_sample": US_PER_MS * MS_PER_S / trainer.state.metrics[SAMPLES],
        "host_mib": host.mebibytes,
        "device_mib": there.mebibytes,
    }

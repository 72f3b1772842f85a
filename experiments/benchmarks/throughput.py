"""How fast a training step is, in how much memory, and how near to what the device could do.

``python experiments/benchmarks/throughput.py --out throughput.json`` trains the multimodal
transformer by this project's trainer, with what a run usually has (fused AdamW, clipping, EMA,
schedule, metrics), and prints a row for each way to compute a step. Batches lie on the device; of
their scans about half are real. Shown is

* ``ms``: a step, the median over windows of steps in which the device is never waited for;
* samples and real scans a second, and how many times faster than the first row;
* ``peak MiB``: what the allocator handed out at most, and on a GPU took from it (``reserved``), on
  a CPU how far the process grew;
* ``busy ms``: how long the GPU's main stream worked, of a step; the rest it waited for launches;
* ``useful``: the share of the device's peak rate for matrix products that goes into products which
  are needed, those of the real scans.

``--data memmap`` reads the batches from a memory map instead, and says how much longer a step is;
``--sizes`` shows memory and time against scans, points, real scans and samples; ``--accuracy``
trains on the embedded cohort in each precision; ``--profile`` shows what a step's time goes into.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # The profiler's own remarks, which it would print among the rows.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.specs import require_whole
from engine.precision import best_device
from experiments.benchmarks.accuracy import compare_precisions, print_accuracy
from experiments.benchmarks.data_wait import measure_wait, print_wait
from experiments.benchmarks.size_tables import measure_sizes
from experiments.benchmarks.step_figures import Effort, Figures, measure_all
from experiments.benchmarks.step_profile import STEPS
from experiments.benchmarks.step_settings import (
    StepSize,
    Variant,
    add_size_options,
    parse_variant,
    read_size,
)
from experiments.benchmarks.useful_work import peak_rate

VARIANTS = {
    "cpu": ("fp32", "bf16", "fp32-packed", "bf16-packed"),
    "cuda": (
        "fp32",
        "tf32",
        "bf16",
        "fp32-packed",
        "bf16-packed",
        "bf16-packed-checkpointed",
        "bf16-packed-compiled",
        "bf16-packed-graphs",
    ),
}
FROM_DISK = {"cpu": ("fp32-packed",), "cuda": ("bf16-packed", "bf16-packed-graphs")}
OF_SIZES = {"cpu": "fp32-packed", "cuda": "bf16-packed"}
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "bf16", "fp16")}
SECONDS = {"cpu": 5.0, "cuda": 3.0}
SECONDS_A_SIZE = {"cpu": 1.5, "cuda": 0.7}
ROUNDS = {"cpu": 3, "cuda": 1}
ROUNDS_FROM_DISK = {"cpu": 3, "cuda": 15}
COHORT = {"cpu": 320, "cuda": 4000}
SEEDS = (0, 1)
SHOWN_KERNELS = 12

COLUMNS = (
    "ms",
    "samples/s",
    "scans/s",
    "ratio",
    "peak MiB",
    "reserved",
    "busy ms",
    "useful",
)


def print_rows(found: dict[str, Figures], peak: float) -> None:
    """The table; ratios are to the first row."""
    width = max(len(name) for name in found)
    print(" " * width + "".join(f"{head:>11}" for head in COLUMNS))
    reference = next(iter(found.values()))
    for name, figures in found.items():
        row = figures.plain(reference, peak)
        busy = "-" if figures.busy_ms is None else f"{figures.busy_ms:.2f}"
        cells = (
            f"{row['ms']:.2f}",
            f"{row['samples_per_s']:.0f}",
            f"{row['scans_per_s']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['peak_mib']:.0f}",
            f"{row['reserved_mib']:.0f}",
            busy,
            f"{row['useful_share']:.1%}",
        )
        print(f"{name:<{width}}" + "".join(f"{cell:>11}" for cell in cells))


def print_profile(name: str, figures: Figures) -> None:
    """Where a step's time goes."""
    total = sum(figures.groups.values())
    print(f"\n{name}: {total:.2f} ms a step in kernels")
    for group, ms in figures.groups.items():
        print(f"  {group:<32}{ms:>9.3f} ms{ms / total:>8.1%}")
    print("  of which")
    for kernel, ms in list(figures.names.items())[:SHOWN_KERNELS]:
        print(f"  {ms:>9.3f} ms  {kernel[:110]}")


def measure_steps(
    size: StepSize,
    variants: Sequence[Variant],
    device: torch.device,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Measure, print and return the main table."""
    peak, source = peak_rate(device)
    print(f"peak {peak / 1e12:.3g} TFLOP/s ({source})", flush=True)
    profiled = options.profile_steps if options.profile or device.type == "cuda" else 0
    effort = Effort(options.seconds, options.steps, options.warmup, profiled)
    found, left_out = measure_all(size, variants, device, effort, options.rounds)
    if found:
        print_rows(found, peak)
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    if options.profile:
        for name, figures in found.items():
            print_profile(name, figures)
    reference = next(iter(found.values()), None)
    rows: dict[str, Any] = {}
    if reference is not None:
        rows = {name: figures.plain(reference, peak) for name, figures in found.items()}
        if options.profile:
            for name, figures in found.items():
                rows[name]["kernels"] = dict(list(figures.names.items())[:SHOWN_KERNELS])
    return {"peak_flops": peak, "peak_source": source, "rows": rows, "left_out": left_out}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code: 1 where something failed, 2 for a wrong option."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_size_options(parser)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="as 'bf16-packed-graphs'")
    parser.add_argument("--seconds", type=float, help="of each row in each round")
    parser.add_argument("--steps", type=int, metavar="N", help="measured steps, in place of it")
    parser.add_argument("--warmup", type=int, metavar="N", help="steps before")
    parser.add_argument("--rounds", type=int, metavar="R", help="turns of each row")
    parser.add_argument("--profile", action="store_true", help="what a step's time goes into")
    parser.add_argument("--profile-steps", type=int, default=STEPS, metavar="N", help="0 for none")
    parser.add_argument("--data", choices=("resident", "memmap"), default="resident")
    parser.add_argument("--cohort", type=int, metavar="N", help="samples on disk")
    parser.add_argument("--workers", type=int, default=0, metavar="W", help="of the loader")
    parser.add_argument("--folder", type=Path, help="where a cohort is written, and removed")
    parser.add_argument("--sizes", action="store_true", help="against scans, points and samples")
    parser.add_argument("--accuracy", action="store_true", help="AUROC of each precision")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--epochs", type=int, help="of --accuracy; the configuration's own else")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    try:
        results = run(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.out is not None:
        text = json.dumps(results, indent=2) + "\n"
        write_whole(text.encode(), options.out.parent, options.out.name, durable=False)
    failed = [results.get("steps", {}), results.get("sizes", {}), results.get("wait", {})]
    return 1 if any(part.get("left_out") for part in failed) else 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """What the options ask for, as JSON takes it.

    Raises:
        UsageError: An option is wrong.
    """
    try:
        device = best_device(options.device)
    except ValueError as error:
        raise UsageError(f"--device: {error}") from error
    kind = device.type
    rounds = ROUNDS_FROM_DISK if options.data == "memmap" else ROUNDS
    for name, usual in (("seconds", SECONDS), ("rounds", rounds), ("cohort", COHORT)):
        if getattr(options, name) is None:
            setattr(options, name, usual[kind])
    for name in ("steps", "warmup", "rounds", "cohort", "epochs"):
        if getattr(options, name) is not None:
            require_whole(f"--{name}", getattr(options, name), 1)
    require_whole("--profile-steps", options.profile_steps, 0)
    size = read_size(options, device)
    shown = torch.cuda.get_device_name(device) if kind == "cuda" else f"CPU, {_threads()}"
    results: dict[str, Any] = {"device": shown, "torch": torch.__version__, "size": vars(size)}
    print(f"{shown}, torch {torch.__version__}", flush=True)
    if options.accuracy:
        rows = compare_precisions(PRECISIONS[kind], options.seeds, options.epochs, kind)
        print_accuracy(rows)
        return {**results, "accuracy": rows}
    print(
        f"B {size.samples}, S {size.scans}, L {size.points}, "
        f"{size.valid:.0%} real, width {size.d_model}, {size.layers} layers, {size.heads} heads, "
        f"patches of {size.patch}, {size.covariates} covariates",
        flush=True,
    )
    usual_names = FROM_DISK[kind] if options.data == "memmap" else VARIANTS[kind]
    variants = [parse_variant(name) for name in options.variants or usual_names]
    if options.sizes:
        name = options.variants[0] if options.variants else OF_SIZES[kind]
        effort = Effort(SECONDS_A_SIZE[kind], options.steps, options.warmup)
        sizes = measure_sizes(size, parse_variant(name), device, effort, options)
        return {**results, "sizes": sizes}
    if options.data == "memmap":
        wait = measure_wait(size, variants, device, options)
        print_wait(wait)
        return {**results, "wait": wait}
    return {**results, "steps": measure_steps(size, variants, device, options)}


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} thread" + ("s" if count > 1 else "")


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
